use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind, HecConfig, Poison, PoisonCode};
use serde_json::Value;

use crate::support::{Browser, Destination, Frame, Hec, Lab, SOON, eventually, private};

const ADMIN_TOKEN: &str = "adm1n-t0ken-2f9c";

/// Where a destination's card is.
fn card(name: &str, below: &str) -> String {
    format!("[data-destination='{name}'] {below}")
}

/// A relay whose changes need a token.
fn lab_with_a_token(hec: &Hec) -> Lab {
    let mut lab = Lab::with(hec, "");
    let file = private(lab.path(), "admin-token", ADMIN_TOKEN);
    lab.edit("[admin]\n", &format!("[admin]\ntoken_file = \"{}\"\n", file.display()));
    lab
}

/// A picture for whoever wants to look: `FOREBAY_SCREENSHOTS` says where to.
async fn picture(browser: &Browser, name: &str) {
    let Some(directory) = std::env::var_os("FOREBAY_SCREENSHOTS") else { return };
    fs::write(Path::new(&directory).join(format!("{name}.png")), browser.picture().await).unwrap();
}

async fn open(browser: &Browser, lab: &Lab) {
    browser.open(&format!("http://{}/", lab.admin_address())).await;
    browser.says("#connection", "live").await;
}

/// The page follows the relay: frames that arrive, a hold with its reason and its end, a relay that
/// goes and comes back.
#[tokio::test]
async fn the_page_follows_the_relay() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "hold_probe = \"500ms\"\n");
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    open(&browser, &lab).await;
    browser.says("#phase", "ready").await;
    browser.says("#ingest-state", "open").await;
    browser.says("#warning-list", "None since the start.").await;
    browser.says(&card("splunk", "[data-state]"), "delivering").await;
    browser.says(&card("splunk", "[data-books]"), "0 accepted = 0 acknowledged").await;
    // Nobody may change anything over TCP without a token, and the page says so.
    browser.says("#read-only", "admin.token_file").await;

    assert_eq!(lab.post(&Frame::new("01", &["one", "two"])).await, 200);
    browser.says("#log-facts [data-fact=Messages]", "2").await;
    browser.says(&card("splunk", "[data-books]"), "2 accepted = 2 acknowledged").await;
    browser.says(&card("splunk", "[data-books]"), "they balance").await;
    let moving = "return document.querySelector('#ingest-facts [data-fact=Messages]').innerText";
    eventually(SOON, "the rate is shown", async || {
        let text = browser.run(moving).await.as_str().unwrap().to_owned();
        text.split('/').next().unwrap().ends_with(|c: char| c.is_ascii_digit())
            && !text.contains("\n0/s")
    })
    .await;
    browser.says("#ingest-facts [data-fact='Answers, p99']", "s").await;

    hec.handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    assert_eq!(lab.post(&Frame::new("02", &["three"])).await, 200);
    browser.says(&card("splunk", "[data-state]"), "held").await;
    browser.says(&card("splunk", "[data-reasons]"), "token").await;
    browser.says("#problem-list", "splunk is held and waits for an operator").await;
    browser.says("#warning-list", "held, nothing is lost").await;
    hec.handle().set_fault(None);
    lab.drained(SOON).await;
    browser.says(&card("splunk", "[data-state]"), "delivering").await;
    browser.says(&card("splunk", "[data-books]"), "3 accepted = 3 acknowledged").await;
    assert_eq!(browser.text(&card("splunk", "[data-reasons]")).await, "");
    assert_eq!(browser.complaints().await, [""; 0]);

    lab.stop().await;
    browser.says("#connection", "connection lost").await;
    browser.says("#lost", "The relay does not answer since").await;
    // What was known stays, and is marked as old.
    browser.says("main[data-stale]", "3 accepted = 3 acknowledged").await;
    lab.start().await;
    browser.says("#connection", "live").await;
    assert_eq!(browser.text("#lost").await, "");
    for complaint in browser.complaints().await {
        assert!(complaint.contains("ERR_CONNECTION_REFUSED"), "{complaint}");
    }
    browser.close().await;
}

/// Whatever a text says, it stays a text: every string of every answer becomes markup that would
/// run, and none does.
#[tokio::test]
async fn hostile_texts_are_inert() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").tables(
        "[[drain]]\ntoken = \"d.0\"\napp = \"<img src=x onerror=pwned=1>\"\n\
         [[drain]]\ntoken = \"d.1\"\napp = \"other\"\n",
    );
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    // A drain that nobody knows and that is called like a tag, and an app that reports loss.
    let stranger = Frame { drain: Some("<b>x</b><i>".to_owned()), ..Frame::new("01", &["one"]) };
    assert_eq!(lab.post(&stranger).await, 200);
    let report = "<172>1 2026-01-02T03:04:05+00:00 host heroku logplex - Error L10 (output buffer \
                  overflow): 7 messages dropped since 2026-01-02T03:04:00+00:00.";
    let lost = format!("{} {report}", report.len()).into_bytes();
    let lossy = Frame { drain: Some("d.0".to_owned()), ..Frame::of("02", lost) };
    assert_eq!(lab.post(&lossy).await, 200);
    open(&browser, &lab).await;
    browser.says("#problem-list", "The drain <b>x</b>… is not configured").await;
    browser.says("#problem-list", "7 messages of <img src=x onerror=pwned=1> were lost").await;

    // And now the relay's answers, on their way to the page.
    let script = r#"
        const evil = "<img src=x onerror=window.pwned=1><script>window.pwned=2</scr" + "ipt>";
        const spoil = (value, key) => {
            if (typeof value === "string") return key === "changes_need" ? value : value + evil;
            if (Array.isArray(value)) return value.map((one) => spoil(one));
            if (value && typeof value === "object") {
                return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, spoil(v, k)]));
            }
            return value;
        };
        const real = window.fetch;
        window.fetch = async (...given) => {
            const answer = await real(...given);
            const body = spoil(await answer.json());
            for (const one of body.destinations ?? []) {
                if (one.endpoints) one.reason = evil;
                for (const endpoint of one.endpoints ?? []) endpoint.reason = evil;
            }
            const warnings = [{ at: 1, level: evil, target: evil, text: evil, times: 3 }];
            const spoiled = given[0] === "/v1/warnings" ? warnings : body;
            return new Response(JSON.stringify(spoiled), { status: answer.status });
        };
    "#;
    browser.run(script).await;
    for place in ["#phase", "#problem-list", "#log-facts", "#destinations", "#warning-list"] {
        browser.says(place, "<img src=x onerror=window.pwned=1><script>").await;
    }
    let found = "return [window.pwned ?? null, document.querySelectorAll('img').length, \
                 document.querySelectorAll('script').length]";
    assert_eq!(browser.run(found).await, serde_json::json!([null, 0, 1]));
    // And the browser would not let it: no line of a script may make HTML of a text.
    let sink = "try { document.body.insertAdjacentHTML('beforeend', '<img>'); return 'made' } \
                catch (error) { return error.name }";
    assert_eq!(browser.run(sink).await, "TypeError");
    browser.close().await;
}

/// The token is asked for in a dialog, tried, and kept in this tab only.
#[tokio::test]
async fn the_token_is_asked_for_tried_and_kept_in_the_tab() {
    let hec = Hec::usual();
    let mut lab = lab_with_a_token(&hec);
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    open(&browser, &lab).await;
    browser.says("#unlock", "Enter token").await;
    browser.click("#unlock").await;
    browser.types("#token", "wr0ng").await;
    browser.click("#token-form [type=submit]").await;
    browser.says("#token-error", "The token is wrong.").await;
    browser.types("#token", ADMIN_TOKEN).await;
    picture(&browser, "token-dialog").await;
    browser.click("#token-form [type=submit]").await;
    browser.says("#lock", "Forget token").await;
    let kept = "return [sessionStorage.length, localStorage.length, document.cookie, \
                document.documentElement.outerHTML.includes(arguments[0] ?? 'adm1n-t0ken')]";
    assert_eq!(browser.run(kept).await, serde_json::json!([1, 0, "", false]));
    browser.click("#lock").await;
    browser.says("#unlock", "Enter token").await;
    assert_eq!(browser.run(kept).await, serde_json::json!([0, 0, "", false]));
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

/// What a person needs who sees little, or hears the page: names, contrast, no sideways scrolling.
const BARRIERS: &str = r#"
    const found = [];
    const name = (element) => (element.getAttribute("aria-label") ?? "") + element.textContent +
        [...(element.labels ?? [])].map((label) => label.textContent).join("") +
        (document.getElementById(element.getAttribute("aria-labelledby"))?.textContent ?? "");
    for (const element of document.querySelectorAll("button, input, select, dialog, section, article, [role]")) {
        if (element.matches("[role=status], [role=alert]")) continue;
        if (!name(element).trim()) found.push(`no name: ${element.outerHTML.slice(0, 80)}`);
    }
    if (document.documentElement.scrollWidth > innerWidth) {
        found.push(`${document.documentElement.scrollWidth} px wide in a window of ${innerWidth}`);
    }
    const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const part = (c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = channels(getComputedStyle(element).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let looked = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        if (element.matches("script, style, noscript")) continue;
        const [one, other] = [channels(getComputedStyle(element).color), behind(element)].map(light);
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.data.slice(0, 40)}`);
        looked += 1;
    }
    if (looked < 50) found.push(`only ${looked} texts`);
    return found;
"#;

/// In light and dark, on a desk and on a telephone. With `FOREBAY_SCREENSHOTS=DIRECTORY` there are
/// pictures to look at.
#[tokio::test]
async fn the_page_can_be_read_by_everybody_everywhere() {
    let (hec, refusing) = (Hec::usual(), Hec::usual());
    refusing.handle().set_fault(Some(Fault::always(FaultKind::AckDisabled)));
    let mut lab = Lab::new(vec![
        Destination::new("splunk", hec.address(), ""),
        Destination::new("audit", refusing.address(), ""),
    ]);
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    let pictures = std::env::var_os("FOREBAY_SCREENSHOTS");
    let sending = lab.send(|config| match pictures {
        None => config.frames = Some(50),
        Some(_) => config.rate = Some(5000.0),
    });
    open(&browser, &lab).await;
    browser.says(&card("audit", "[data-state]"), "held").await;
    if pictures.is_some() {
        // Enough for lines.
        let samples = async || {
            let history: Value =
                serde_json::from_str(&lab.get("/v1/history").await.unwrap().body).unwrap();
            history["at"].as_array().unwrap().len()
        };
        eventually(Duration::from_secs(120), "there are lines", async || samples().await > 60)
            .await;
    }
    for (width, dark) in [(1280, false), (1280, true), (400, false), (400, true)] {
        browser.looks(width, 900, dark).await;
        // Charts fit themselves to the window in a frame of their own.
        let mut barriers = Value::Null;
        let found = tokio::time::timeout(SOON, async {
            while barriers != serde_json::json!([]) {
                barriers = browser.run(BARRIERS).await;
            }
        });
        let good = found.await.is_ok();
        assert!(good, "{width} px, dark: {dark}: {barriers:#}");
        if pictures.is_none() {
            continue;
        }
        let height = browser.run("return document.documentElement.scrollHeight").await;
        browser.looks(width, u32::try_from(height.as_u64().unwrap()).unwrap(), dark).await;
        let scheme = if dark { "dark" } else { "light" };
        picture(&browser, &format!("page-{width}-{scheme}")).await;
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
    sending.stop().await;
}

/// Pausing and resuming with the token, asked for when it is needed.
#[tokio::test]
async fn an_operator_pauses_and_resumes_from_the_page() {
    let hec = Hec::usual();
    let mut lab = lab_with_a_token(&hec);
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    open(&browser, &lab).await;
    let button = card("splunk", "button");
    browser.says(&button, "Pause").await;
    browser.click(&button).await;
    browser.types("#token", ADMIN_TOKEN).await;
    browser.click("#token-form [type=submit]").await;
    browser.says("#said", "splunk is paused; nothing is lost.").await;
    browser.says(&button, "Resume").await;
    browser.says("#problem-list", "splunk is paused by an operator").await;
    assert_eq!(lab.post(&Frame::new("01", &["one"])).await, 200);
    browser.says(&card("splunk", "[data-books]"), "1 accepted = 0 acknowledged").await;
    // The token is known now.
    browser.click(&button).await;
    browser.says("#said", "splunk delivers again.").await;
    browser.says(&card("splunk", "[data-books]"), "1 accepted = 1 acknowledged").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

/// A replay from the page: asked for in a dialog, refused with the reason, seen to its end.
#[tokio::test]
async fn an_operator_replays_from_the_page() {
    let hec = Hec::usual();
    let mut lab = lab_with_a_token(&hec);
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    for id in ["01", "02"] {
        assert_eq!(lab.post(&Frame::new(id, &["one", "two"])).await, 200);
    }
    lab.drained(SOON).await;
    let before = hec.ledger.totals().indexed;
    open(&browser, &lab).await;
    browser.says("#replay-list", "None.").await;
    browser.click("#replay").await;
    browser.click("#replay-form [type=submit]").await;
    browser.says("#replay-error", "Enter where it begins.").await;
    browser.looks(400, 900, true).await;
    picture(&browser, "replay-dialog").await;
    browser.click("[name=by][value=offset]").await;
    browser.types("#replay-from", "1").await;
    browser.types("#replay-to", "2").await;
    browser.click("#replay-form [type=submit]").await;
    browser.types("#token", ADMIN_TOKEN).await;
    browser.click("#token-form [type=submit]").await;
    browser.says("#said", "The replay to splunk has begun.").await;
    browser.says("#replay-list", "finished").await;
    browser.says("#replay-list", "100 %, 2 of 2 messages acknowledged").await;
    assert_eq!(hec.ledger.totals().indexed, before + 2);
    browser.run("document.querySelector('#replays').scrollIntoView()").await;
    picture(&browser, "replays").await;
    assert_eq!(browser.complaints().await, [""; 0]);

    // What is not there is refused, in the relay's words.
    browser.click("#replay").await;
    browser.click("[name=by][value=offset]").await;
    browser.types("#replay-from", "7").await;
    browser.click("#replay-form [type=submit]").await;
    browser.says("#said", "Not done: ").await;
    browser.close().await;
}

/// A replay that is held says why at the top of the page and beside itself, and is cancelled there; a
/// dead letter is sent again.
#[tokio::test]
async fn an_operator_cancels_and_redrives_from_the_page() {
    let poison = Poison { marker: "POISON".to_owned(), code: PoisonCode::InvalidData };
    let hec = Hec::with(HecConfig { poison: vec![poison], ..HecConfig::default() });
    let mut lab = lab_with_a_token(&hec);
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["good", "POISON", "good"])).await, 200);
    open(&browser, &lab).await;
    browser.says("#letter-list", "Redrive").await;
    browser.click("#letter-list button").await;
    browser.types("#token", ADMIN_TOKEN).await;
    browser.click("#token-form [type=submit]").await;
    browser.says("#said", "0:1 is to be sent to splunk again.").await;
    // It is refused once more, and waits for an operator again.
    let refusals = async || {
        let body = lab.get("/v1/dead-letters?destination=splunk").await.unwrap().body;
        let letters: Value = serde_json::from_str(&body).unwrap();
        let letter = &letters["letters"][0];
        (letter["refusals"].as_u64(), letter["redrive_us"].is_null())
    };
    eventually(SOON, "it is refused again", async || refusals().await == (Some(2), true)).await;
    browser.says("#letter-list", "Redrive").await;

    hec.handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    browser.click("#replay").await;
    browser.click("[name=by][value=offset]").await;
    browser.types("#replay-from", "0").await;
    browser.click("#replay-form [type=submit]").await;
    browser.says("#replay-list", "held").await;
    browser.says("#replay-list .reason", "is held: ").await;
    browser.says("#problem-list", " to splunk is held: http://").await;
    picture(&browser, "replay-held").await;
    browser.click("#replay-list button").await;
    browser.says("#said", "is cancelled.").await;
    browser.says("#replay-list", "cancelled").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

/// What a collector refuses for good is shown, with its words and the beginning of the message.
#[tokio::test]
async fn dead_letters_are_shown() {
    let poison = Poison { marker: "POISON".to_owned(), code: PoisonCode::InvalidData };
    let hec = Hec::with(HecConfig { poison: vec![poison], ..HecConfig::default() });
    let mut lab = Lab::with(&hec, "");
    let Some(browser) = Browser::start(lab.path()).await else { return };
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["good", "<b>POISON</b>", "good"])).await, 200);
    open(&browser, &lab).await;
    browser.says("#letter-list", "<b>POISON</b>").await;
    browser.says("#letter-list", "code 6").await;
    browser.says(&card("splunk", "[data-fact='Dead letters']"), "1").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}
