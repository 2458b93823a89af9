//! New settings for a relay that runs.
//!
//! A configuration that is read again is good as a whole or refused as a whole: everything that
//! can fail fails while it is read (certificates and secrets included), so that taking it cannot
//! fail. Each part that can change while it runs hangs in a hook of its own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use metrics::gauge;
use tokio::sync::watch;

use crate::admin::ReloadStatus;
use crate::clock;
use crate::config::{Config, ConfigErrors, Exposure, Fixed, Loaded};

/// Gives a part its new settings. It cannot fail: what could is checked before.
pub type Hook = Box<dyn Fn(&Config) + Send + Sync>;

/// Takes new configurations.
pub struct Reloader {
    hooks: Vec<Hook>,
    /// What this process was started with, and keeps.
    fixed: Fixed,
    /// Where ingest listens, and what it was started with: what guards it may not go.
    listener: Option<(SocketAddr, Exposure)>,
    status: watch::Sender<ReloadStatus>,
    /// One reload at a time: two at once could leave a mixture.
    reloading: Mutex<()>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("hooks", &self.hooks.len()).finish_non_exhaustive()
    }
}

impl Reloader {
    pub(super) fn new(fixed: Fixed) -> Self {
        let status = watch::Sender::new(ReloadStatus {
            successful: true,
            taken: clock::unix_micros(),
            restart_needed: Vec::new(),
        });
        let (hooks, reloading) = (Vec::new(), Mutex::new(()));
        let reloader = Self { hooks, fixed, listener: None, status, reloading };
        reloader.export();
        reloader
    }

    /// This is where ingest listens as long as the process runs.
    pub(super) fn listens(&mut self, address: SocketAddr, exposure: Exposure) {
        self.listener = Some((address, exposure));
    }

    /// From now on, this part hears of every configuration that is taken.
    pub(super) fn hook(&mut self, hook: impl Fn(&Config) + Send + Sync + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// How the last reload ended.
    pub(super) fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.subscribe()
    }

    /// Takes a configuration that was read again, or refuses it and keeps the old one. Says
    /// which.
    pub fn reload(&self, loaded: Result<Loaded, ConfigErrors>) -> bool {
        // A hook that panicked has done its worst already.
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = loaded.and_then(|loaded| match &self.listener {
            Some((address, started)) => {
                loaded.config.may_replace(started, *address).map(|()| loaded)
            }
            None => Ok(loaded),
        });
        let taken = match allowed {
            Ok(loaded) => {
                self.take(&loaded);
                true
            }
            Err(errors) => {
                let count = errors.errors().len();
                let errors = errors.to_string().replace('\n', " | ");
                tracing::error!(
                    count,
                    errors,
                    "the configuration is wrong and not taken: the old one stays"
                );
                self.status.send_modify(|status| status.successful = false);
                false
            }
        };
        self.export();
        taken
    }

    fn take(&self, Loaded { config, warnings }: &Loaded) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        for hook in &self.hooks {
            hook(config);
        }
        let restart_needed = self.fixed.changes(&config.fixed);
        if restart_needed.is_empty() {
            tracing::info!("the configuration was read again and is in force");
        } else {
            tracing::warn!(
                keys = restart_needed.join(", "),
                "the configuration was read again and is in force, but for these keys, which only \
                 a restart can change"
            );
        }
        let taken = clock::unix_micros();
        self.status.send_replace(ReloadStatus { successful: true, taken, restart_needed });
    }

    fn export(&self) {
        let status = self.status.borrow();
        gauge!("forebay_config_last_reload_successful").set(f64::from(u8::from(status.successful)));
        gauge!("forebay_config_last_reload_seconds").set(status.taken.get() as f64 / 1e6);
        gauge!("forebay_config_restart_needed").set(status.restart_needed.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn read(extra: &str) -> Result<Loaded, ConfigErrors> {
        let text = format!(
            "{extra}\n[[destination]]\nendpoints = [\"https://hec.example.com\"]\ntoken = \"t\"\n"
        );
        Config::parse(&text, "f.toml", &|_| None)
    }

    #[test]
    fn a_good_one_reaches_every_hook_and_a_bad_one_none() {
        let mut reloader = Reloader::new(read("").unwrap().config.fixed);
        let heard = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let heard = Arc::clone(&heard);
            reloader.hook(move |config| {
                heard.fetch_add(config.ingest.live.users.len(), Ordering::SeqCst);
            });
        }
        let status = reloader.status();
        let user = "[[ingest.user]]\nname = \"a\"\npassword = \"b\"";
        assert!(reloader.reload(read(user)));
        assert_eq!(heard.load(Ordering::SeqCst), 2);
        assert!(status.borrow().successful && status.borrow().restart_needed.is_empty());
        assert!(!reloader.reload(read(&format!("{user}\ndrains = [\"nobody\"]"))));
        assert_eq!(heard.load(Ordering::SeqCst), 2, "refused whole");
        assert!(!status.borrow().successful);
    }

    /// The listener is what it was at the start, also the one that was inherited.
    #[test]
    fn what_guards_the_listener_does_not_go_before_it() {
        let guard = "[[ingest.user]]\nname = \"a\"\npassword = \"b\"\n";
        let moved = "ingest.listen = \"127.0.0.1:1\"\n";
        let start = |insecure: &str, address: &str| {
            let config = read(&format!("{insecure}{guard}")).unwrap().config;
            let mut reloader = Reloader::new(config.fixed);
            reloader.listens(address.parse().unwrap(), config.exposure);
            reloader
        };
        let insecure = "ingest.allow_insecure = true\n";
        for (started, address, text, taken) in [
            ("", "192.0.2.1:443", moved.to_owned(), false),
            ("", "0.0.0.0:443", format!("{moved}{guard}"), false),
            ("", "[::]:443", format!("{insecure}{moved}"), false),
            ("", "127.0.0.1:443", moved.to_owned(), true),
            ("", "[::1]:443", moved.to_owned(), true),
            (insecure, "192.0.2.1:443", moved.to_owned(), true),
        ] {
            let reloader = start(started, address);
            assert_eq!(reloader.reload(read(&text)), taken, "{started} {address} {text}");
            assert_eq!(reloader.status().borrow().successful, taken);
        }
    }

    #[test]
    fn what_only_a_restart_changes_is_named() {
        let reloader = Reloader::new(read("").unwrap().config.fixed);
        let status = reloader.status();
        assert!(reloader.reload(read("[wal]\nretention = \"1h\"\nmax_size = \"50GiB\"")));
        assert_eq!(status.borrow().restart_needed, ["wal.retention"]);
        assert!(reloader.reload(read("")));
        assert!(status.borrow().restart_needed.is_empty(), "as it was");
    }
}
