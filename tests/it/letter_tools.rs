use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use forebay::simulate::hec::HecToken;
use serde_json::{Value, json};

use crate::support::{
    Client, Frame, Hec, Lab, Ran, SOON, command, eventually, measured, run, usual_ack,
};

/// The index is the kind of a message: a token that may write to `app` only refuses the router's.
const BY_KIND: &str = "ack_timeout = \"5s\"\nhold_probe = \"300ms\"\nrecall = \"1s\"\n\
     [destination.batch]\nmax_events = 20\nlinger = \"20ms\"\n\
     [destination.event]\nindex = \"{{ kind }}\"\n";

const ADMIN_TOKEN: &str = "adm1n-t0ken-77ab";

/// A message of the router.
fn router(text: &[u8]) -> Vec<u8> {
    let head = b"<158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - ";
    let length = (head.len() + text.len() + 1).to_string();
    [length.as_bytes(), b" ", head, text, b"\n"].concat()
}

/// A frame of three messages, of which the one in the middle is the router's.
fn frame(number: usize, text: &[u8]) -> Frame {
    let body = [Frame::message(b"before"), router(text), Frame::message(b"behind")].concat();
    Frame { count: Some("3".to_owned()), ..Frame::of(&format!("{number:032}"), body) }
}

/// A relay, with a token for changes, and a collector that refuses the router's messages.
async fn refused(frames: usize, text: impl Fn(usize) -> Vec<u8>) -> (Hec, Lab) {
    let mut hec = Hec::down(usual_ack());
    hec.indexes = vec!["app".to_owned()];
    hec.start();
    let mut lab = Lab::with(&hec, BY_KIND);
    let file = lab.path().join("admin-token");
    fs::write(&file, ADMIN_TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    lab.edit("[admin]\n", &format!("[admin]\ntoken_file = \"{}\"\n", file.display()));
    lab.start().await;
    let mut client = lab.client().await;
    for number in 0..frames {
        assert_eq!(client.post(&frame(number, &text(number))).await, 200);
    }
    eventually(SOON, "what is refused is dead-lettered", async || {
        letters(&lab).await == frames as f64 && lab.books("splunk").await.pending == 0
    })
    .await;
    (hec, lab)
}

async fn letters(lab: &Lab) -> f64 {
    lab.metric("forebay_dead_letters{destination=\"splunk\"}").await.unwrap_or(-1.0)
}

/// `forebay dead-letter …`, against the relay of the lab.
fn ask(lab: &Lab, args: &[&str]) -> Ran {
    let config = lab.config_file();
    run(&[&["dead-letter"], args, &["--config", config.to_str().unwrap()]].concat())
}

/// The positions in a list.
fn positions(lab: &Lab, args: &[&str]) -> Vec<String> {
    let listed = ask(lab, &[&["list", "--json"], args].concat()).json();
    let all = listed["letters"].as_array().unwrap();
    all.iter().map(|letter| letter["position"].as_str().unwrap().to_owned()).collect()
}

/// A POST to admin: status, and what is said.
async fn post(lab: &Lab, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut client = Client::connect(lab.admin_address()).await;
    client.send(request.as_bytes()).await;
    let answer = client.answer().await.unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// The ids of the router's messages that are indexed, and how often.
fn indexed(hec: &Hec) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for event in hec.ledger.events().iter().filter(|event| event.indexed) {
        if event.index.as_deref() == Some("router") {
            let id = event.fields["event_id"].as_str().unwrap().to_owned();
            *all.entry(id).or_default() += 1;
        }
    }
    all
}

/// As an operator goes about it: look, mend the cause, have one sent again, then all, and remove
/// what nobody wants.
#[tokio::test]
async fn an_operator_lists_shows_redrives_and_purges() {
    let text = |number: usize| match number {
        3 => b"not \xff text".to_vec(),
        _ => format!("router {number} \u{1b}[2J").into_bytes(),
    };
    let (mut hec, lab) = refused(8, text).await;
    let expected: Vec<_> = (0..8).map(|offset| format!("{offset}:1")).collect();
    assert_eq!(positions(&lab, &[]), expected);
    for (filter, found) in [
        (&["--code", "7"][..], &expected[..]),
        (&["--code", "6"], &[]),
        (&["--since", "-1h"], &expected),
        (&["--before", "-1h"], &[]),
        (&["--after", "2:1", "--limit", "2"], &expected[3..5]),
        (&["--after", "2:0", "--destination", "splunk"], &expected[2..]),
        (&["--after", "7:1"], &[]),
    ] {
        assert_eq!(positions(&lab, filter), found, "{filter:?}");
    }
    let listed = ask(&lab, &["list", "--limit", "2"]).stdout;
    assert!(listed.contains("--destination splunk --after 1:1"), "{listed}");
    assert!(listed.contains("\\u{1b}[2J") && !listed.contains('\u{1b}'), "{listed}");

    let shown = ask(&lab, &["show", "2:1", "--json"]).json();
    let whole = String::from_utf8(router(b"router 2 \x1b[2J")).unwrap();
    let (_, whole) = whole.split_once(' ').unwrap();
    assert_eq!(shown["message"], whole, "{shown}");
    assert_eq!((&shown["code"], &shown["status"]), (&json!(7), &json!(400)));
    assert_eq!(shown["text"], "Incorrect index");
    assert_eq!(shown["event_id"], format!("{:032}:1", 2));
    let token = "d.fc6b856b-3332-4546-93de-7d0ee272c3bd";
    assert!(!shown.to_string().contains(token), "{shown}");
    let not_text = ask(&lab, &["show", "3:1", "--json"]).json();
    assert_eq!(not_text["message"], Value::Null);
    assert!(not_text["message_base64"].as_str().is_some(), "{not_text}");
    for number in [2, 3] {
        let (at, config) = (format!("{number}:1"), lab.config_file());
        let raw = command(&["dead-letter", "show", &at, "--raw", "--config"]).arg(config).output();
        let framed = router(&text(number));
        assert!(framed.ends_with(&raw.unwrap().stdout), "{number}");
    }
    let shown = ask(&lab, &["show", "2:1"]).stdout;
    assert!(shown.contains("HTTP 400, code 7: Incorrect index"), "{shown}");
    let missing = ask(&lab, &["show", "2:0"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("there is no dead letter 2:0 of splunk"), "{missing:?}");

    // The collector still refuses: what is sent again stays, with one refusal more.
    assert_eq!(ask(&lab, &["redrive", "2:1"]).code, Some(0));
    eventually(SOON, "it is refused again", async || {
        ask(&lab, &["show", "2:1", "--json"]).json()["refusals"] == 2
    })
    .await;
    assert_eq!(letters(&lab).await, 8.0);

    hec.stop().await;
    hec.indexes = Vec::new();
    hec.start();
    let redriven = ask(&lab, &["redrive", "2:1", "3:1", "--json"]).json();
    assert_eq!(redriven, json!({ "destination": "splunk", "changed": 2 }));
    eventually(SOON, "two are sent", async || letters(&lab).await == 6.0).await;
    let refused = ask(&lab, &["purge", "0:1"]);
    assert_eq!(refused.code, Some(64), "without --yes: {refused:?}");
    assert_eq!(ask(&lab, &["purge", "0:1", "0:1", "--yes"]).code, Some(0));
    let gone = ask(&lab, &["purge", "0:1", "1:1", "--yes"]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stderr.contains("only 1 of 2 dead letters were there"), "{gone:?}");
    assert_eq!(ask(&lab, &["redrive", "--code", "6"]).stdout.split(' ').next(), Some("0"));
    assert_eq!(ask(&lab, &["redrive", "--all"]).code, Some(0));
    eventually(SOON, "all are sent", async || letters(&lab).await == 0.0).await;

    let indexed = indexed(&hec);
    let ids: Vec<_> = (2..8).map(|number| format!("{number:032}:1")).collect();
    assert_eq!(indexed.keys().cloned().collect::<Vec<_>>(), ids, "with the ids they had");
    assert!(indexed.values().all(|copies| *copies == 1), "{indexed:?}");
    let books: Value =
        serde_json::from_str(&lab.get("/v1/dead-letters").await.unwrap().body).unwrap();
    let books = &books["destinations"][0];
    let counts = ["letters", "bytes", "written", "redriven", "purged", "expired", "withdrawn"];
    assert_eq!(counts.map(|name| books[name].as_u64().unwrap()), [0, 0, 8, 6, 2, 0, 0], "{books}");
    assert_eq!(ask(&lab, &["redrive", "--all"]).code, Some(1), "there is nothing to choose");
}

/// Whoever may look may not change, and what is not understood is refused with a way out.
#[tokio::test]
async fn dead_letters_are_changed_only_by_whoever_may_and_pages_are_bounded() {
    let (_hec, lab) = refused(3, |number| format!("router {number}").into_bytes()).await;
    let all = json!({ "destination": "splunk", "all": true });
    for path in ["/v1/dead-letters/redrive", "/v1/dead-letters/purge"] {
        assert_eq!(post(&lab, path, "wr0ng", &all).await.0, 401, "{path}");
        assert_eq!(lab.get(path).await.unwrap().status, 405, "{path}");
        for (body, status, says) in [
            (json!({ "destination": "splunk" }), 400, "no dead letters are chosen"),
            (json!({ "destination": "splunk", "all": true, "code": 7 }), 400, "a filter"),
            (json!({ "destination": "splunk", "positions": ["0:1"], "code": 7 }), 400, "a filter"),
            (json!({ "destination": "splunk", "positions": ["first"] }), 400, "offset:index"),
            (json!({ "destination": "other", "all": true }), 404, "no destination other"),
            (json!({ "destination": "splunk", "al": true }), 422, "unknown field `al`"),
        ] {
            let (answered, said) = post(&lab, path, ADMIN_TOKEN, &body).await;
            assert_eq!(answered, status, "{path} {body}: {said}");
            assert!(said["error"].as_str().unwrap().contains(says), "{said}");
            assert!(said["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{said}");
        }
    }
    for (query, status) in [
        ("destination=splunk&limit=1000", 200),
        ("destination=splunk&limit=1001", 400),
        ("destination=splunk&limit=0", 400),
        ("destination=splunk&limit=many", 400),
        ("destination=splunk&after=0", 400),
        ("destination=other", 404),
        ("destination=a%20b", 404),
        ("destinations=splunk", 400),
    ] {
        let answer = lab.get(&format!("/v1/dead-letters?{query}")).await.unwrap();
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
    let page = lab.get("/v1/dead-letters?destination=splunk&limit=2").await.unwrap().body;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((page["letters"].as_array().unwrap().len(), &page["next"]), (2, &json!("1:1")));
    assert_eq!(letters(&lab).await, 3.0, "nothing has changed");
}

/// Messages are customers' logs: over TCP they are shown with the token only, and to nobody who takes
/// the relay for somebody else, as a page does that has its own name resolve to 127.0.0.1.
#[tokio::test]
async fn what_is_in_a_message_is_shown_only_with_the_token_and_to_no_other_host() {
    let text = |number| format!("secret-of-a-customer {number}").into_bytes();
    let (_hec, lab) = refused(2, text).await;
    let ask = async |path: &str, host: &str, token: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut client = Client::connect(lab.admin_address()).await;
        client.send(request.as_bytes()).await;
        let answer = client.answer().await.unwrap();
        (answer.status, answer.body)
    };
    let (list, one) = ("/v1/dead-letters?destination=splunk", "/v1/dead-letters/splunk/0:1");
    let here = lab.admin_address().to_string();
    for host in ["localhost:9600", &here, "[::1]"] {
        for (path, status) in [(list, 200), (one, 401)] {
            let (answered, body) = ask(path, host, "wr0ng").await;
            assert_eq!(answered, status, "{path}: {body}");
            assert!(!body.contains("customer"), "{path} without the token: {body}");
        }
        for path in [list, one] {
            let (answered, body) = ask(path, host, ADMIN_TOKEN).await;
            assert_eq!(answered, 200, "{path}: {body}");
            assert!(body.contains("secret-of-a-customer 0"), "{path}: {body}");
        }
    }
    for path in [list, one, "/", "/v1/status", "/metrics", "/nothing"] {
        for host in ["rebound.example:9600", "admin", "10.1.2.3"] {
            let (answered, body) = ask(path, host, ADMIN_TOKEN).await;
            assert_eq!(answered, 421, "{path} of {host}: {body}");
            assert!(body.contains("localhost"), "what to do instead: {body}");
        }
    }
    let (answered, body) = ask("http://rebound.example/v1/status", "localhost", ADMIN_TOKEN).await;
    assert_eq!(answered, 421, "{body}");

    // The command goes on without the token where it can, and says what it lacks.
    let admin = here.as_str();
    let nobody = |args: &[&str]| {
        let mut command = command(&[&["dead-letter"], args, &["--admin", admin]].concat());
        let output = command.arg("--config").arg(lab.path().join("none")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = nobody(&["list"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0:1") && !said.contains("customer"), "{said}");
    assert!(said.contains("messages are shown over TCP with the token"), "{said}");
    let (code, said) = nobody(&["show", "0:1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a token is needed"), "{said}");
}

/// A redrive is remembered: SIGKILL in the middle of it loses none, and each keeps its id.
#[tokio::test]
async fn a_redrive_outlives_sigkill() {
    const LETTERS: usize = 400;
    const KILLS: usize = 5;
    let (mut hec, mut lab) = refused(LETTERS, |n| format!("router {n}").into_bytes()).await;
    hec.stop().await;
    hec.indexes = Vec::new();
    hec.start();
    let marked = ask(&lab, &["redrive", "--all", "--json"]).json();
    assert_eq!(marked["changed"], LETTERS);
    let mut caught = 0;
    for _ in 0..KILLS {
        let before = hec.ledger.totals().accepted;
        eventually(SOON, "some are posted, or all are gone", async || {
            hec.ledger.totals().accepted > before || letters(&lab).await == 0.0
        })
        .await;
        lab.kill();
        lab.start().await;
        caught += usize::from(letters(&lab).await > 0.0);
    }
    assert!(caught > 0, "a kill came while letters were on their way");
    eventually(SOON, "all are sent", async || letters(&lab).await == 0.0).await;
    let indexed = indexed(&hec);
    let ids: BTreeSet<_> = (0..LETTERS).map(|number| format!("{number:032}:1")).collect();
    assert_eq!(indexed.keys().cloned().collect::<BTreeSet<_>>(), ids, "all, and nothing else");
    let duplicates = indexed.values().map(|copies| copies - 1).sum::<u64>();
    measured("copies of 400 letters that were redriven under 5 kills", duplicates);
    let books: Value =
        serde_json::from_str(&lab.get("/v1/dead-letters").await.unwrap().body).unwrap();
    let books = &books["destinations"][0];
    assert_eq!((&books["written"], &books["redriven"]), (&json!(LETTERS), &json!(LETTERS)));
    let books = lab.books("splunk").await;
    assert_eq!((books.dead_lettered, books.difference), (LETTERS as u64, 0), "{books:?}");
}

/// What is purged while it waits to be sent again does not arrive: not even when its collector holds
/// the redrive, and it stands in a body that is made already.
#[tokio::test]
async fn what_is_purged_during_a_redrive_does_not_arrive() {
    let (mut hec, lab) = refused(2, |number| format!("router {number}").into_bytes()).await;
    hec.stop().await;
    hec.indexes = Vec::new();
    hec.tokens(vec![HecToken::default()]);
    hec.start();
    assert_eq!(ask(&lab, &["redrive", "--all"]).code, Some(0));
    eventually(SOON, "the redrive is held", async || lab.log().contains("held, nothing is lost"))
        .await;
    assert_eq!(ask(&lab, &["purge", "0:1", "--yes"]).code, Some(0));
    hec.stop().await;
    hec.tokens(Vec::new());
    hec.start();
    eventually(SOON, "the other one is sent", async || letters(&lab).await == 0.0).await;
    let ids: Vec<_> = indexed(&hec).into_keys().collect();
    assert_eq!(ids, [format!("{:032}:1", 1)], "and no other");
    let books: Value =
        serde_json::from_str(&lab.get("/v1/dead-letters").await.unwrap().body).unwrap();
    let books = &books["destinations"][0];
    assert_eq!((&books["redriven"], &books["purged"]), (&json!(1), &json!(1)), "{books}");
}
