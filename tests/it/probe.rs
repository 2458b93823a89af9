use std::num::NonZeroUsize;
use std::path::PathBuf;

use forebay::simulate::hec::{AckMode, Balancer, Fault, FaultKind, HecConfig, HecToken};
use forebay::types::Secret;
use serde_json::Value;

use crate::support::{
    Authority, Destination, Hec, Lab, PASSWORD, Port, TOKEN, command, private, usual_ack,
};

/// What the probe of one collector printed.
#[derive(Debug)]
struct Printed {
    code: Option<i32>,
    text: String,
    json: Value,
}

impl Printed {
    /// Outcome and detail of a step.
    fn step(&self, step: &str) -> (&str, &str) {
        let findings = self.json["destinations"][0]["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["step"] == step);
        let found = found.unwrap_or_else(|| panic!("no {step}: {}", self.json));
        (found["outcome"].as_str().unwrap(), found["detail"].as_str().unwrap())
    }

    fn bad(&self) -> Vec<&str> {
        let findings = self.json["destinations"][0]["findings"].as_array().unwrap();
        let bad = findings.iter().filter(|finding| finding["outcome"] == "bad");
        bad.map(|finding| finding["step"].as_str().unwrap()).collect()
    }
}

/// Runs the probe twice: once for people, once as JSON.
async fn probe(lab: &Lab, wait: &'static str, environment: &[(&'static str, PathBuf)]) -> Printed {
    let file = lab.config_file();
    let environment = environment.to_vec();
    let run = async |json: bool| {
        let (file, environment) = (file.clone(), environment.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let file = file.to_str().unwrap();
            let mut args = vec!["check", "--probe", "--probe-wait", wait, "--config", file];
            if json {
                args.push("--json");
            }
            command(&args).envs(environment).output().unwrap()
        });
        let output = ended.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        for secret in [TOKEN, PASSWORD] {
            assert!(!text.contains(secret) && !errors.contains(secret), "{text}{errors}");
        }
        (output.status.code(), text)
    };
    let (code, text) = run(false).await;
    let (again, json) = run(true).await;
    assert_eq!(code, again, "{text}{json}");
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert_eq!(json["good"], code == Some(0), "{json}");
    Printed { code, text, json }
}

fn lab(hec: &Hec, extra: &'static str) -> Lab {
    Lab::with(hec, extra)
}

#[tokio::test]
async fn a_good_collector_is_good() {
    let hec = Hec::usual();
    let lab = lab(&hec, "[destination.event]\nindex = \"heroku\"\n");
    let printed = probe(&lab, "20s", &[]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for (step, outcome, words) in [
        ("dns", "good", "127.0.0.1"),
        ("tls", "note", "in the clear"),
        ("health", "good", "code 17"),
        ("token", "good", "taken"),
        ("acknowledgement", "good", "on"),
        ("body_size", "good", "takes 1MB"),
        ("index", "good", "acknowledged after"),
        ("stickiness", "good", "one indexer"),
    ] {
        let (found, detail) = printed.step(step);
        assert_eq!(found, outcome, "{step}: {detail}");
        assert!(detail.contains(words), "{step}: {detail}");
    }
    assert!(printed.text.contains("  good     stickiness"), "{}", printed.text);
    assert!(printed.text.ends_with("good\n"), "{}", printed.text);
    // Six marker events a run, in the index that is configured, and nothing else.
    let kept = hec.ledger.events();
    assert_eq!(kept.len(), 12);
    for event in kept {
        assert_eq!(event.index.as_deref(), Some("heroku"));
        assert!(event.event.starts_with("forebay probe"), "{event:?}");
    }
}

#[tokio::test]
async fn every_fault_is_found_by_its_step() {
    for (kind, bad, words) in [
        (FaultKind::InvalidToken, &["token"][..], "code 4"),
        (FaultKind::AckDisabled, &["acknowledgement"], "off for this token"),
        (FaultKind::Detention, &["token"], "HTTP 404"),
        (FaultKind::Captive, &["token"], "HTTP 200"),
        (FaultKind::BadGateway, &["token"], "HTTP 502"),
        (FaultKind::NoTarget, &["token"], "HTTP 503"),
        (FaultKind::Busy, &["token"], "code 9"),
        (FaultKind::QueueFull, &["token"], "code 26"),
        (FaultKind::AckFull, &["token"], "code 27"),
        (FaultKind::ShuttingDown, &["token"], "code 23"),
        (FaultKind::LostAckReply, &["acknowledgement"], "connection closed"),
        (FaultKind::ResetBeforeBody, &["token"], "connection closed"),
        (FaultKind::TruncatedReply, &["token"], "breaks off"),
        (FaultKind::OversizedReply, &["token"], "too long"),
    ] {
        let hec = Hec::usual();
        hec.handle().set_fault(Some(Fault::always(kind)));
        let printed = probe(&lab(&hec, ""), "1s", &[]).await;
        assert_eq!((printed.code, printed.bad()), (Some(1), bad.to_vec()), "{kind:?} {printed:?}");
        let (_, detail) = printed.step(bad[0]);
        assert!(detail.contains(words), "{kind:?}: {detail}");
        assert!(printed.text.contains(words), "{kind:?}: {}", printed.text);
    }
    // Warnings are no faults.
    for kind in [FaultKind::ApproachingCapacity, FaultKind::ApproachingAckCapacity] {
        let hec = Hec::usual();
        hec.handle().set_fault(Some(Fault::always(kind)));
        assert_eq!(probe(&lab(&hec, ""), "20s", &[]).await.code, Some(0), "{kind:?}");
    }
}

/// What `acknowledgement = "auto"` would choose is told before the relay is started.
#[tokio::test]
async fn what_auto_would_choose_is_told() {
    let chosen = async |hecs: &[&Hec]| {
        let mut lab = lab(hecs[0], "acknowledgement = \"auto\"\n");
        let urls = |hecs: &[&Hec]| {
            let urls = hecs.iter().map(|hec| format!("\"http://{}\"", hec.address()));
            format!("endpoints = [{}]", urls.collect::<Vec<_>>().join(", "))
        };
        lab.edit(&urls(&hecs[..1]), &urls(hecs));
        let printed = probe(&lab, "20s", &[]).await;
        let (outcome, detail) = printed.step("choice");
        (printed.code, outcome.to_owned(), detail.to_owned())
    };
    let (on, off, gone) = (Hec::usual(), Hec::usual(), Hec::usual());
    off.handle().set_fault(Some(Fault::always(FaultKind::AckDisabled)));
    gone.handle().set_fault(Some(Fault::always(FaultKind::Detention)));
    for (hecs, code, outcome, words) in [
        (&[&on][..], 0, "good", "would choose acknowledgement = \"required\""),
        (&[&off, &on], 0, "good", "the endpoints without it are held"),
        (&[&off], 0, "note", "would choose acknowledgement = \"off\""),
        (&[&off, &gone], 1, "bad", "would choose nothing yet"),
        (&[&gone], 1, "bad", "would choose nothing yet"),
    ] {
        let chosen = chosen(hecs).await;
        assert_eq!((chosen.0, chosen.1.as_str()), (Some(code), outcome), "{chosen:?}");
        assert!(chosen.2.contains(words), "{chosen:?}");
    }
}

#[tokio::test]
async fn an_index_that_is_not_allowed_and_a_small_body_are_found() {
    let token = HecToken {
        value: Secret::new(TOKEN.to_owned()),
        indexes: vec!["main".to_owned()],
        ..HecToken::default()
    };
    let base = HecConfig { max_content_length: 100_000, ..HecConfig::default() };
    let mut hec = Hec::with(base);
    hec.stop().await;
    hec.tokens(vec![token]);
    hec.start();
    let lab = lab(&hec, "[destination.event]\nindex = \"other\"\n");
    let printed = probe(&lab, "1s", &[]).await;
    assert_eq!((printed.code, printed.bad()), (Some(1), vec!["body_size", "index"]));
    assert!(printed.step("index").1.contains("may not write to index \"other\""), "{printed:?}");
    assert!(printed.step("body_size").1.contains("batch.max_bytes"), "{printed:?}");
}

#[tokio::test]
async fn an_event_that_is_never_acknowledged_is_found() {
    let hec = Hec::up(AckMode::Never);
    let printed = probe(&lab(&hec, ""), "1s", &[]).await;
    assert_eq!((printed.code, printed.bad()), (Some(1), vec!["index"]));
    assert!(printed.step("index").1.contains("not acknowledged within 1 s"), "{printed:?}");
}

/// With the affinity that a balancer needs there is nothing to be said against it.
#[tokio::test]
async fn a_balancer_is_good_with_the_affinity_it_needs() {
    for (balancer, affinity) in [
        (Balancer::Cookie { lifetime: None }, "affinity = \"cookie\"\n"),
        (Balancer::Connection, "affinity = \"connection\"\n"),
    ] {
        let indexers = NonZeroUsize::new(3).unwrap();
        let hec = Hec::with(HecConfig { indexers, balancer, ..HecConfig::default() });
        let printed = probe(&lab(&hec, affinity), "20s", &[]).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert_eq!(printed.step("stickiness").0, "good", "{balancer:?}: {printed:?}");
    }
}

#[tokio::test]
async fn who_counts_the_ids_is_found() {
    for (balancer, outcome, words) in [
        (Balancer::RoundRobin, "bad", "without stickiness"),
        (Balancer::Cookie { lifetime: None }, "bad", "cookie"),
        (Balancer::Connection, "note", "one for each connection"),
    ] {
        let indexers = NonZeroUsize::new(3).unwrap();
        let hec = Hec::with(HecConfig { indexers, balancer, ..HecConfig::default() });
        // Whether the last marker is acknowledged depends on the balancer as well.
        let printed = probe(&lab(&hec, ""), "1s", &[]).await;
        let (found, detail) = printed.step("stickiness");
        assert_eq!(found, outcome, "{balancer:?}: {detail}");
        assert!(detail.contains(words), "{balancer:?}: {detail}");
    }
}

#[tokio::test]
async fn nobody_and_a_wrong_certificate_are_found() {
    let nobody = Lab::new(vec![Destination::new("splunk", Port::free().address(), "")]);
    let printed = probe(&nobody, "1s", &[]).await;
    assert_eq!((printed.code, printed.bad()), (Some(1), vec!["tls"]));
    assert!(printed.step("tls").1.contains("refused"), "{printed:?}");
    assert_eq!(printed.step("token").0, "skipped");

    let ours = Authority::new("ours");
    for (pair, outcome, words) in [
        (ours.good(), "good", "valid for"),
        (ours.expired(), "bad", "expired"),
        (ours.named("hec.internal"), "bad", "not valid for name"),
    ] {
        let hec = Hec::with(HecConfig { tls: Some(pair.tls(None)), ..HecConfig::default() });
        let extra = "[destination.tls]\nca_file = \"${LAB_CA}\"\n";
        let lab = Lab::new(vec![Destination::new("splunk", hec.address(), extra).over_tls()]);
        let ca = private(lab.path(), "ca.pem", &ours.pem());
        let printed = probe(&lab, "20s", &[("LAB_CA", ca)]).await;
        let (found, detail) = printed.step("tls");
        assert_eq!(found, outcome, "{detail}");
        assert!(detail.contains(words), "{detail}");
        assert_eq!(printed.code, Some(i32::from(outcome == "bad")), "{printed:?}");
    }
}

#[tokio::test]
async fn a_destination_that_needs_no_acknowledgement_is_good_without() {
    let mut hec = Hec::down(usual_ack());
    let value = Secret::new(TOKEN.to_owned());
    hec.tokens(vec![HecToken { value, use_ack: false, ..HecToken::default() }]);
    hec.start();
    let printed = probe(&lab(&hec, "acknowledgement = \"off\"\n"), "1s", &[]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.step("acknowledgement").0, "note");
    assert_eq!(printed.step("stickiness").0, "skipped");
}
