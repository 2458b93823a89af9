//! `forebay drain add`: credentials for a drain, and the line to paste.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::json;

use crate::app::Exit;
use crate::config::Config;

use super::args::DEFAULT_CONFIG;
use super::client::Failure;
use super::output;

/// Random bytes in a password: 192 bits, 32 characters.
const RANDOM: usize = 24;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The user name in the drain's URL: letters, digits, `-` and `_`.
    #[arg(value_name = "NAME", value_parser = url_safe)]
    name: String,
    /// The Heroku app; without, NAME.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// How Heroku reaches this machine, such as `https://logs.example.com`; without, a placeholder.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where the password goes; without, `credentials/NAME` beside the configuration.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The configuration. It is read, and not changed.
    #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Logplex takes the user info of a URL apart without decoding it.
fn url_safe(name: &str) -> Result<String, String> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(safe) {
        return Ok(name.to_owned());
    }
    Err("a name is made of letters, digits, `-` and `_`".to_owned())
}

pub(super) fn add(args: &AddArgs) -> Exit {
    added(args).map_or_else(Failure::tell, |()| Exit::Stopped)
}

fn added(args: &AddArgs) -> Result<(), Failure> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let base = args.url.as_deref().unwrap_or("https://logs.example.com");
    let mut url = reqwest::Url::parse(base)
        .map_err(|error| usage(format!("--url is no URL: {error}; write https://host:port")))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(usage("--url is no URL of a web server; write https://host:port".to_owned()));
    }
    let peek = Config::peek(&args.config, &|name| std::env::var(name).ok()).ok();
    if url.path() == "/" {
        url.set_path(peek.as_ref().map_or("/logs", |peek| &peek.ingest_path));
    }
    let password = password()?;
    let beside = || {
        let directory = args.config.parent().unwrap_or_else(|| Path::new("."));
        directory.join("credentials").join(&args.name)
    };
    let file = args.password_file.clone().unwrap_or_else(beside);
    write(&file, &password)?;
    // Both consist of what a URL takes as it is.
    if url.set_username(&args.name).is_err() || url.set_password(Some(&password)).is_err() {
        return Err(Failure::new(Exit::Bug, "the URL takes no user"));
    }
    let app = args.app.as_ref().unwrap_or(&args.name);
    let command = format!("heroku drains:add '{url}' --app {app}");
    let file = std::path::absolute(&file).unwrap_or(file);
    if args.json {
        output::json(&json!({
            "user": args.name,
            "password_file": file,
            "url": url.as_str(),
            "command": command,
        }));
        return Ok(());
    }
    let placeholder = if args.url.is_none() {
        "\nlogs.example.com stands for the name under which Heroku reaches this machine.\n"
    } else {
        ""
    };
    output::line(&format!(
        "The password is in {file}, which only the user who ran this command can read: root, with\n\
         sudo.\n\n\
         1. Tell forebay. Under systemd, let LoadCredential={name}:{file} pass it on\n\
         (sudo systemctl edit forebay, below [Service]), and write into {config}:\n\n\
         [[ingest.user]]\n\
         name = \"{name}\"\n\
         password_file = \"${{CREDENTIALS_DIRECTORY}}/{name}\"\n\n\
         Then a restart is needed. Without systemd, give the file to the user that forebay runs as\n\
         (chown), write password_file = \"{file}\" instead, and reload it.\n\n\
         2. Tell Heroku. The line holds the password: it belongs in no ticket and no chat.\n\
         {placeholder}\n\
         {command}\n\n\
         3. `heroku drains --app {app}` shows the drain's token, which gives it a name here:\n\n\
         [[drain]]\n\
         token = \"d.…\"\n\
         app = \"{app}\"",
        file = file.display(),
        config = args.config.display(),
        name = args.name,
    ));
    Ok(())
}

/// A new password, of what Logplex does not decode: letters, digits, `-` and `_`.
fn password() -> Result<String, Failure> {
    use std::io::Read as _;
    let mut bytes = [0; RANDOM];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(
        |error| Failure::new(Exit::Bug, format!("there is no source of random bytes: {error}")),
    )?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// Never over a password that is there: a drain may use it.
fn write(path: &Path, password: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let why = if error.kind() == ErrorKind::AlreadyExists {
            "there is a password already; remove the file, or choose another name".to_owned()
        } else {
            error.to_string()
        };
        let text = format!("{} cannot be written: {why}", path.display());
        Failure::new(Exit::Configuration, text)
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(failed)?;
    writeln!(file, "{password}").and_then(|()| file.sync_all()).map_err(failed)
}
