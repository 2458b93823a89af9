//! A headless Chromium, driven over WebDriver.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Client, Port, Process, SOON, eventually};

/// How long a browser may take to start on a machine that is busy.
const START: Duration = Duration::from_secs(60);

/// The name under which WebDriver's answers have the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    port: Port,
    session: String,
    /// With it goes the browser: they talk through a pipe.
    _driver: Process,
}

impl Browser {
    /// Starts one; none where there is none, which is said. In CI there has to be one.
    pub(crate) async fn start(dir: &Path) -> Option<Self> {
        let there = ["chromium", "chromedriver"].into_iter().all(|program| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        if !there {
            let why = "SKIPPED: chromium or chromedriver is not installed (apt-get install chromium \
                       chromium-driver): the status page was not looked at";
            assert!(std::env::var_os("FOREBAY_CI").is_none(), "{why}");
            eprintln!("{why}");
            return None;
        }
        let port = Port::free();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", port.address().port())).stdin(Stdio::null());
        // What a browser writes into its user's home.
        command.env("HOME", dir);
        let driver = Process::start(command, &dir.join("chromedriver"), &dir.join("chromedriver"));
        eventually(START, "chromedriver answers", async || {
            TcpStream::connect(port.address()).await.is_ok()
        })
        .await;
        let mut browser = Self { port, session: String::new(), _driver: driver };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            // It talks to nobody but the page, and ends with its driver.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--remote-debugging-pipe",
        ];
        let profile = format!("--user-data-dir={}", dir.join("chromium").display());
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.push(profile);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = browser.ask("POST", "/session", &wanted).await;
        let id = session["sessionId"].as_str().unwrap();
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    /// Ends the browser in order.
    pub(crate) async fn close(self) {
        self.ask("DELETE", &self.session, &Value::Null).await;
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut client = Client::connect(self.port.address()).await;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(request.as_bytes()).await;
        let answer = client.answer_within(START).await.unwrap();
        let mut answer_body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path} {body}: {answer_body:#}");
        answer_body["value"].take()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body).await
    }

    /// A command of Chromium's own protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// Runs a function body in the page and returns what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// What an element says as it is seen; empty when it is not there or not seen.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!(
            "const found = document.querySelector({}); return found?.checkVisibility() ? \
             found.innerText : ''",
            json!(selector)
        );
        self.run(&script).await.as_str().unwrap().to_owned()
    }

    /// Waits until an element says something.
    pub(crate) async fn says(&self, selector: &str, what: &str) {
        let mut last = String::new();
        let said = tokio::time::timeout(SOON, async {
            loop {
                last = self.text(selector).await;
                if last.contains(what) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let said = said.await.is_ok();
        assert!(said, "{selector} does not say {what:?} but {last:?}");
    }

    async fn element(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.post("/element", &wanted).await;
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    /// Clicks as a person does: on what can be seen and is not covered.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("{element}/click"), &json!({})).await;
    }

    pub(crate) async fn types(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("{element}/clear"), &json!({})).await;
        self.post(&format!("{element}/value"), &json!({ "text": text })).await;
    }

    /// The window's size, and whether the user likes it dark.
    pub(crate) async fn looks(&self, width: u32, height: u32, dark: bool) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// A picture of the window, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let path = format!("{}/screenshot", self.session);
        let picture = self.ask("GET", &path, &Value::Null).await;
        base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    /// What the console has said since this was asked last, but for what is merely chatter.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" })).await;
        let lines = log.as_array().unwrap().iter();
        let bad = lines.filter(|line| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING")));
        bad.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}
