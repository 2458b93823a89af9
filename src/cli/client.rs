//! Asking the relay that runs: over TCP or a unix socket, wherever its admin listens.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::admin::Listen;
use crate::app::Exit;
use crate::config::{Config, ConfigErrors};
use crate::types::Secret;

use super::args::DEFAULT_CONFIG;
use super::output;

/// How long a relay on the same machine may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const LONGEST: usize = 16 << 20;

/// The longest token, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Where admin listens when no configuration says so.
const DEFAULT_ADMIN: &str = "127.0.0.1:9600";

/// Which relay.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Where the relay's admin listens: 127.0.0.1:9600, or unix:/run/forebay/admin.sock. Without,
    /// `admin.listen` of the configuration.
    #[arg(long, env = "FOREBAY_ADMIN", value_name = "ADDRESS")]
    admin: Option<Listen>,
    /// The file with the token for changes, and for messages, over TCP; without, `admin.token_file` of the
    /// configuration.
    #[arg(long, env = "FOREBAY_ADMIN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The configuration.
    #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

/// A command that cannot be done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// Tells the user.
    pub(super) fn tell(self) -> Exit {
        output::error(&self.text);
        self.exit
    }
}

/// Whether there is certainly no such file. What cannot be looked at may be there.
fn is_absent(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

/// What helps when the configuration says nothing.
fn where_is_it(config: &Path, denied: bool, errors: &ConfigErrors) -> String {
    if denied {
        return format!(
            "where is the relay? {} is not for this user: ask again with sudo, or name its admin \
             with --admin ADDRESS, such as --admin {DEFAULT_ADMIN}\n{errors}",
            config.display()
        );
    }
    format!(
        "where is the relay? Name its admin with --admin ADDRESS, or its configuration with \
         --config FILE\n{errors}"
    )
}

/// A relay's admin.
#[derive(Clone, Debug)]
pub(super) struct Client {
    listen: Listen,
    /// Who says that it is there.
    said_by: String,
    token_file: Option<PathBuf>,
}

impl Client {
    /// Finds out where the relay is.
    pub(super) fn new(args: AdminArgs) -> Result<Self, Failure> {
        let peek = Config::peek(&args.config, &|name| std::env::var(name).ok());
        let in_config = peek.as_ref().ok().and_then(|peek| peek.admin_token_file.clone());
        let token_file = args.token_file.or(in_config);
        if let Some(listen) = args.admin {
            let said_by = "--admin or FOREBAY_ADMIN".to_owned();
            return Ok(Self { listen, said_by, token_file });
        }
        match peek {
            Ok(peek) => {
                let said_by = args.config.display().to_string();
                Ok(Self { listen: peek.admin, said_by, token_file })
            }
            // Whoever has named a file means it. One behind a directory that is closed may be there.
            Err(_) if args.config.as_os_str() == DEFAULT_CONFIG && is_absent(&args.config) => {
                let said_by = format!("the default, as there is no {DEFAULT_CONFIG}");
                let listen = DEFAULT_ADMIN.parse::<Listen>();
                let listen = listen.map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
                Ok(Self { listen, said_by, token_file })
            }
            Err(errors) => {
                let denied = File::open(&args.config)
                    .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
                let text = where_is_it(&args.config, denied, &errors);
                Err(Failure::new(Exit::Configuration, text))
            }
        }
    }

    /// As it is shown.
    pub(super) fn address(&self) -> String {
        match &self.listen {
            Listen::Tcp(address) => format!("http://{address}"),
            unix @ Listen::Unix(_) => unix.to_string(),
        }
    }

    /// What is at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, None).await
    }

    /// What is at a path that hides from strangers what is in messages.
    pub(super) async fn get_with_token<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, self.token()?).await
    }

    /// The same, for whoever cannot read the token: then with what everybody may see.
    pub(super) async fn get_with_token_if_any<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, self.token().ok().flatten()).await
    }

    /// Changes something.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        self.ask(method, path, body, self.token()?).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<Secret>,
    ) -> Result<T, Failure> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            let value = format!("Bearer {}", token.expose());
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| Failure::new(Exit::Configuration, "the token is no token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.send(request)).await;
        let (status, bytes) = match answer {
            Ok(answer) => answer?,
            Err(_) => {
                let text = format!("{} does not answer within {PATIENCE:?}", self.address());
                return Err(Failure::new(Exit::No, text));
            }
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| self.strange(error));
        }
        Err(self.refused(status, &bytes))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        match &self.listen {
            Listen::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|e| self.absent(&e))?;
                self.exchange(stream, request).await
            }
            Listen::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| self.absent(&e))?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.strange(error))?;
        // Ends with this call, with whatever it is doing.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| self.strange(error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        Ok((status, body.map_err(|error| self.strange(error))?.to_bytes()))
    }

    fn token(&self) -> Result<Option<Secret>, Failure> {
        use std::io::Read as _;
        // On a unix socket nobody asks for it.
        let Listen::Tcp(_) = self.listen else { return Ok(None) };
        let Some(path) = &self.token_file else { return Ok(None) };
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text));
        read.map_err(|error| {
            let text = format!("the token in {} cannot be read: {error}", path.display());
            Failure::new(Exit::Configuration, text)
        })?;
        Ok(Some(Secret::new(text.trim_end().to_owned())))
    }

    /// Nobody is there.
    fn absent(&self, error: &std::io::Error) -> Failure {
        let advice = if error.kind() == ErrorKind::PermissionDenied {
            "Only forebay's user and root may open its socket: try sudo."
        } else {
            "Is it running? `systemctl status forebay.service` says so, and `journalctl -u \
             forebay.service -n 50` why not. Another relay is named by --admin ADDRESS or \
             --config FILE."
        };
        let text = format!(
            "no relay answers at {} (from {}): {error}\n{advice}",
            self.address(),
            self.said_by
        );
        Failure::new(Exit::No, text)
    }

    fn strange(&self, error: impl std::fmt::Display) -> Failure {
        let text = format!("what answers at {} is no forebay: {error}", self.address());
        Failure::new(Exit::No, text)
    }

    fn refused(&self, status: StatusCode, bytes: &[u8]) -> Failure {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(error) = text("error") else {
            return self.strange(format!("it says {status}"));
        };
        let fix = text("fix").map(|fix| format!("; {fix}")).unwrap_or_default();
        Failure::new(Exit::No, format!("the relay refuses: {error}{fix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As root nothing is denied; what is behind a file cannot be looked at either.
    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_taken_for_absent() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::write(&there, "").unwrap();
        assert!(is_absent(&dir.path().join("not-there")));
        assert!(!is_absent(&there));
        let behind = there.join("forebay.toml");
        assert!(!behind.exists() && !is_absent(&behind));
    }

    #[test]
    fn who_may_not_read_the_configuration_is_told_what_helps() {
        let path = Path::new("/nowhere/forebay.toml");
        let errors = Config::peek(path, &|_| None).unwrap_err();
        let denied = where_is_it(path, true, &errors);
        for word in ["/nowhere/forebay.toml is not for this user", "sudo", "--admin 127.0.0.1:9600"]
        {
            assert!(denied.contains(word), "{word}: {denied}");
        }
        assert!(!where_is_it(path, false, &errors).contains("sudo"));
    }
}
