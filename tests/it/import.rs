use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use tempfile::TempDir;

use crate::support::{
    Authority, Client, Frame, Hec, PASSWORD, Port, Process, SOON, TOKEN, command, eventually, get,
    private,
};

/// As Vector's documentation of both components has it, with everything that is usual.
const WHOLE: &str = r#"
data_dir = "/var/lib/vector"

[acknowledgements]
enabled = true

[sources.heroku]
type = "heroku_logs"
address = "0.0.0.0:8443"
query_parameters = ["application", "team"]

[sources.heroku.auth]
username = "heroku"
password = "${DRAIN_PASSWORD}"

[sources.heroku.tls]
enabled = true
crt_file = "${DIR}/tls.crt"
key_file = "${DIR}/tls.key"

[sinks.splunk]
type = "splunk_hec_logs"
inputs = ["heroku"]
endpoint = "https://http-inputs-acme.splunkcloud.com:443/"
default_token = "$SPLUNK_HEC_TOKEN"
compression = "gzip"
index = "heroku"
sourcetype = "heroku:{{ app_name }}"
source = "{{ .application }}"
host_key = "host"
indexed_fields = ["team", "proc_id"]

[sinks.splunk.encoding]
codec = "text"

[sinks.splunk.acknowledgements]
indexer_acknowledgements_enabled = true
query_interval = 10
retry_limit = 12

[sinks.splunk.batch]
max_bytes = 500000
timeout_secs = 0.5

[sinks.splunk.request]
timeout_secs = 30
retry_max_duration_secs = 10

[sinks.splunk.buffer]
type = "disk"
max_size = 10737418240
when_full = "block"

[sinks.splunk.tls]
ca_file = "${DIR}/ca.pem"
"#;

/// One that grew: transforms, secrets in the file, a second sink, what forebay has not.
const GROWN: &str = r#"api:
  enabled: true
defaults: &defaults
  type: splunk_hec_logs
  endpoint: http://splunk.internal:8088/services/collector
  default_token: b7a8f0d2-real-t0ken-in-the-file
sources:
  drain:
    type: heroku_logs
    address: 0.0.0.0:${PORT:-80}
    auth:
      strategy: custom
      source: '.headers.authorization == "Bearer s3cr3t-vrl"'
  metrics:
    type: internal_metrics
transforms:
  parse:
    type: remap
    inputs: [drain]
    source: |
      . = parse_json!(.message)
  split:
    type: route
    inputs: ["par*"]
    route:
      errors: '.level == "error"'
sinks:
  errors:
    <<: *defaults
    inputs: [split.errors, metrics]
    compression: zstd
    index: "{{ kubernetes.namespace }}"
    indexed_fields: [level, host]
    request:
      retry_attempts: 5
      concurrency: 200
    buffer:
      - type: memory
        max_events: 1000
        when_full: overflow
      - type: disk
        max_size: 300000000
        when_full: drop_newest
    frobnicate: true
  archive:
    type: aws_s3
    inputs: [drain]
    bucket: logs
"#;

const LEAST: &str = r#"{
	"sources": {"in": {"type": "logplex", "address": "127.0.0.1:8080",
		"auth": {"username": "h@ku", "password": "SECRET[vault.drain]"}}},
	"sinks": {"out": {"type": "splunk_hec", "inputs": ["*"],
		"endpoint": "https://user:s3cr3t@hec.example.com:8088",
		"token": "${HEC:-s3cr3t}"}}
}"#;

/// An imported configuration.
#[derive(Debug)]
struct Imported {
    dir: TempDir,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn import(name: &str, text: &str) -> Imported {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    let output = command(&["import", "vector", name]).current_dir(dir.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Imported { dir, code: output.status.code(), stdout, stderr }
}

impl Imported {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `forebay check` of what came out, with the variables and files that it asks for.
    fn check(&self) {
        let file = private(self.path(), "forebay.toml", &self.stdout);
        let authority = Authority::new("import");
        let pair = authority.good();
        private(self.path(), "tls.crt", &pair.chain);
        private(self.path(), "tls.key", &pair.key);
        private(self.path(), "ca.pem", &authority.pem());
        for name in ["drain", "hec"] {
            private(self.path(), name, "pass-w0rd");
        }
        let output = self.environment(command(&["check", "-c", file.to_str().unwrap()])).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}\n{}", self.stdout);
    }

    fn environment(&self, mut command: Command) -> Command {
        let dir = self.path();
        command
            .env("DIR", dir)
            .env("CREDENTIALS_DIRECTORY", dir)
            .env("PORT", "8081")
            .env("DRAIN_PASSWORD", PASSWORD)
            .env("FOREBAY_DRAIN_PASSWORD", PASSWORD);
        for token in ["SPLUNK_HEC_TOKEN", "ERRORS_HEC_TOKEN", "HEC"] {
            command.env(token, TOKEN);
        }
        command
    }

    /// The value of a key that stands once.
    fn key(&self, key: &str) -> &str {
        let start = format!("{key} = ");
        let mut values = self.stdout.lines().filter_map(|line| line.strip_prefix(&start));
        let value = values.next().unwrap_or_else(|| panic!("no {key} in {}", self.stdout));
        assert_eq!(values.next(), None, "{key} stands twice in {}", self.stdout);
        value
    }
}

#[test]
fn a_vector_configuration_that_has_a_counterpart_is_taken_over_whole() {
    let import = import("vector.toml", WHOLE);
    assert_eq!((import.code, import.stderr.as_str()), (Some(0), ""), "{}", import.stdout);
    for (key, value) in [
        ("listen", r#""0.0.0.0:8443""#),
        ("path", r#""/events""#),
        ("query", r#"["app", "application", "team"]"#),
        ("certificate", r#""${DIR}/tls.crt""#),
        ("private_key_file", r#""${DIR}/tls.key""#),
        ("password", r#""${DRAIN_PASSWORD}""#),
        ("endpoints", r#"["https://http-inputs-acme.splunkcloud.com"]"#),
        ("token", r#""${SPLUNK_HEC_TOKEN}""#),
        ("acknowledgement", r#""required""#),
        ("ack_timeout", r#""120s""#),
        ("compression", r#""gzip""#),
        ("timeout", r#""30s""#),
        ("retry_max", r#""10s""#),
        ("linger", r#""500ms""#),
        ("index", r#""heroku""#),
        ("sourcetype", r#""heroku:{{ app_name }}""#),
        ("source", r#""{{ query.application }}""#),
        ("max_size", r#""10737418240B""#),
        ("ca_file", r#""${DIR}/ca.pem""#),
    ] {
        assert_eq!(import.key(key), value, "{key}");
    }
    assert!(
        import.stdout.contains("# From sinks.splunk.compression, line 26."),
        "{}",
        import.stdout
    );
    import.check();
}

#[test]
fn what_has_no_counterpart_is_told_with_its_line_and_is_1() {
    let import = import("vector.yaml", GROWN);
    assert_eq!(import.code, Some(1), "{}", import.stderr);
    for (line, words) in [
        (1, "api: has no counterpart"),
        (3, "defaults: has no counterpart"),
        (10, "sources.drain.address: has a default, and forebay's ${PORT} has none"),
        (12, "sources.drain.auth.strategy: has no counterpart: forebay runs no VRL"),
        (14, "sources.metrics: has no counterpart: Prometheus reads /metrics"),
        (17, "transforms.parse: is a transform of the type remap"),
        (22, "transforms.split: is a transform of the type route"),
        (28, "sinks.errors: hears of metrics too (type internal_metrics)"),
        (5, "sinks.errors.endpoint: has a path or a query"),
        (5, "sinks.errors.endpoint: sends token and logs in the clear"),
        (6, "sinks.errors.default_token: holds the secret itself"),
        (31, "sinks.errors.compression: has no counterpart: gzip is written"),
        (32, "sinks.errors.index: has no counterpart: the field `kubernetes.namespace`"),
        (33, "sinks.errors.indexed_fields: the field level has no counterpart"),
        (33, "sinks.errors.indexed_fields: the field host is not written"),
        (35, "sinks.errors.request.retry_attempts: has no counterpart: forebay never gives up"),
        (36, "sinks.errors.request.concurrency: has no counterpart: there are at most 64 lanes"),
        (43, "sinks.errors.buffer.when_full: has no counterpart: nothing is dropped"),
        (44, "sinks.errors.frobnicate: has no counterpart"),
        (45, "sinks.archive: of the type aws_s3 has no counterpart"),
    ] {
        let expected = format!("forebay: vector.yaml:{line}: {words}");
        assert!(import.stderr.contains(&expected), "{expected}\n{}", import.stderr);
    }
    let told = import.stderr.lines().count();
    assert_eq!(told, 20, "nothing else is told:\n{}", import.stderr);
    for (key, value) in [
        ("endpoints", r#"["https://splunk.internal:8088"]"#),
        ("token", r#""${ERRORS_HEC_TOKEN}""#),
        ("password", r#""${FOREBAY_DRAIN_PASSWORD}""#),
        ("max_size", r#""300000000B""#),
        ("lanes", "64"),
    ] {
        assert_eq!(import.key(key), value);
    }
    import.check();
}

/// Neither on standard output nor on standard error, however they are written.
#[test]
fn no_secret_of_a_vector_configuration_is_printed() {
    for (name, text) in [("v.yml", GROWN), ("v.json", LEAST)] {
        let import = import(name, text);
        assert_eq!(import.code, Some(1), "{}", import.stderr);
        for secret in ["s3cr3t", "t0ken-in-the-file"] {
            assert!(text.contains(secret) || name == "v.json");
            assert!(!import.stdout.contains(secret), "{}", import.stdout);
            assert!(!import.stderr.contains(secret), "{}", import.stderr);
        }
        import.check();
    }
    let import = import("v.json", LEAST);
    assert_eq!(import.key("password_file"), r#""${CREDENTIALS_DIRECTORY}/drain""#);
    assert_eq!(import.key("compression"), r#""none""#, "Vector's default");
}

#[test]
fn what_is_no_vector_configuration_is_78_and_an_unknown_format_is_64() {
    for (name, text, code, words) in [
        ("v.yaml", "sources:\n  a: [\n", 78, "v.yaml:"),
        ("v.toml", "[sinks]\ntoken = s3cr3t\n", 78, "v.toml:2: not TOML"),
        ("v.json", "{\"a\": 1,\n}", 78, "v.json:2: not JSON"),
        ("v.yaml", "sources:\n  a: {type: heroku_logs}\n", 78, "nothing to import"),
        ("vector.conf", "", 64, "say --format"),
    ] {
        let import = import(name, text);
        assert_eq!(import.code, Some(code), "{}", import.stderr);
        assert_eq!(import.stdout, "", "{name}");
        assert!(import.stderr.contains(words), "{}", import.stderr);
        assert!(!import.stderr.contains("s3cr3t"), "{}", import.stderr);
    }
}

/// The drain's URL and credentials stay what they were for Vector, and the events arrive.
#[tokio::test]
async fn a_relay_serves_what_was_imported_from_vector() {
    let hec = Hec::usual();
    let (ingest, admin) = (Port::free(), Port::free());
    let text = format!(
        "sources:\n  heroku:\n    type: heroku_logs\n    address: {}\n    auth:\n      \
         username: heroku\n      password: ${{DRAIN_PASSWORD}}\n\
         sinks:\n  splunk:\n    type: splunk_hec_logs\n    inputs: [heroku]\n    \
         endpoint: http://{}\n    default_token: ${{SPLUNK_HEC_TOKEN}}\n",
        ingest.address(),
        hec.address()
    );
    let import = import("vector.yaml", &text);
    assert_eq!((import.code, import.stderr.as_str()), (Some(0), ""), "{}", import.stdout);
    let config = format!(
        "data_dir = \"{}\"\n{}\n[admin]\nlisten = \"{}\"\n",
        import.path().join("data").display(),
        import.stdout,
        admin.address()
    );
    let file = private(import.path(), "forebay.toml", &config);
    let serve = import.environment(command(&["serve", "-c", file.to_str().unwrap()]));
    let (out, log) = (import.path().join("out"), import.path().join("log"));
    let mut relay = Process::start(serve, &out, &log);
    eventually(SOON, "it is ready", async || {
        assert!(relay.ended().is_none(), "{}", fs::read_to_string(&log).unwrap());
        get(admin.address(), "/readyz").await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    let credentials =
        base64::engine::general_purpose::STANDARD.encode(format!("heroku:{PASSWORD}"));
    let request = Frame::new("F-1", &["a", "b"]).request();
    let request = String::from_utf8(request).unwrap().replacen("/logs", "/events", 1);
    assert!(request.contains(&credentials));
    let mut client = Client::connect(ingest.address()).await;
    client.send(request.as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    eventually(SOON, "both are acknowledged", async || hec.ledger.totals().acknowledged == 2).await;
    relay.terminate();
    assert_eq!(relay.exit(SOON).await.0, Some(0));
}
