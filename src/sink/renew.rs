//! The clients of a destination, which are made anew when the files that TLS and the proxy are made
//! of are renewed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::client::HecClient;
use super::config::Config;
use super::http::ClientError;

/// A client that can be replaced while requests are on their way. Those of one destination, which
/// differ in their endpoints, are renewed together.
pub(super) struct Renewable {
    client: ArcSwap<HecClient>,
    /// What it is made of.
    config: Mutex<Config>,
    all: All,
}

/// All that are in use.
type All = Arc<Mutex<Vec<Weak<Renewable>>>>;

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renewable").field(&self.client.load()).finish()
    }
}

/// What a thread that panicked has left is whole: a value is put there in one go.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renewable {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, ClientError> {
        say_whether_verified(config);
        let all = All::default();
        let client = HecClient::new(config)?;
        Ok(Self::among(&mut locked(&all), &all, client, config.clone()))
    }

    fn among(
        members: &mut Vec<Weak<Self>>,
        all: &All,
        client: HecClient,
        config: Config,
    ) -> Arc<Self> {
        let client = ArcSwap::from_pointee(client);
        let new = Arc::new(Self { client, config: Mutex::new(config), all: Arc::clone(all) });
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&new));
        new
    }

    /// One for the endpoints of a configuration, with TLS, the proxy and the token of this one.
    pub(super) fn at(&self, config: &Config) -> Result<Arc<Self>, ClientError> {
        // Held meanwhile, so that none is missed by a renewal.
        let mut members = locked(&self.all);
        let (trust, proxy) = {
            let own = locked(&self.config);
            (own.trust.clone(), own.proxy.clone())
        };
        let config = Config { trust, proxy, ..config.clone() };
        let client = self.now().at(&config)?;
        Ok(Self::among(&mut members, &self.all, client, config))
    }

    /// The one that is in use. Whoever has it keeps it to the end of a request and no longer.
    pub(super) fn now(&self) -> Arc<HecClient> {
        self.client.load_full()
    }

    /// Whether the collectors' certificates are checked.
    pub(super) fn tls_verified(&self) -> bool {
        locked(&self.config).tls_verified()
    }

    /// Takes TLS and the proxy of another configuration, if they are others. The connections of
    /// before end with their requests.
    pub(super) fn renew(&self, new: &Config) {
        let members = locked(&self.all);
        let mut renewed = false;
        for member in members.iter().filter_map(Weak::upgrade) {
            renewed |= member.take(new);
        }
        if renewed {
            tracing::info!(destination = %new.name, "TLS and the proxy are renewed");
            say_whether_verified(new);
        }
    }

    /// Whether they are others, and taken.
    fn take(&self, new: &Config) -> bool {
        let mut config = locked(&self.config);
        if config.trust == new.trust && config.proxy == new.proxy {
            return false;
        }
        let (trust, proxy) = (new.trust.clone(), new.proxy.clone());
        let renewed = Config { trust, proxy, ..config.clone() };
        match self.now().at(&renewed) {
            Ok(client) => {
                self.client.store(Arc::new(client));
                *config = renewed;
                true
            }
            // All of it has been checked when it was read: what is left is that the system gives
            // nothing.
            Err(error) => {
                tracing::error!(
                    destination = %config.name, %error,
                    "TLS and the proxy are not renewed: the old ones stay"
                );
                false
            }
        }
    }
}

fn say_whether_verified(config: &Config) {
    let verified = config.tls_verified();
    if !verified {
        tracing::warn!(
            destination = %config.name,
            "certificates of the collectors are NOT verified: whoever sits in between can read \
             the token and the logs"
        );
    }
    metrics::gauge!("forebay_tls_unverified", "destination" => config.name.to_string())
        .set(if verified { 0.0 } else { 1.0 });
}
