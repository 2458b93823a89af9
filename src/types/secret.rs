//! Values that must not be seen.

use std::fmt;

/// A text that shows itself only to whoever asks for it by name.
///
/// There is no `Display`, `Debug` hides the content, and it cannot be serialised, so a secret
/// does not reach logs, metrics, the status page or an error by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The content. Every call of this is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_content() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(***)");
    }
}
