//! `${VAR}` in a text: replaced by the environment; `$$` stands for a dollar sign.

use super::Env;

/// Why a text cannot be expanded. Holds nothing of the text but the name of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The environment has no such variable.
    Unset(String),
    /// A `$` that begins neither `${NAME}` nor `$$`.
    LoneDollar,
}

/// Replaces every `${NAME}`. What a variable holds is not expanded again.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        let (name, behind) = behind
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .filter(|(name, _)| is_name(name))
            .ok_or(ExpandError::LoneDollar)?;
        out.push_str(&env(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
        expand(text, &|name| match name {
            "HOME" => Some("/home/me".to_owned()),
            "MONEY" => Some("${HOME}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(expanded("plain").as_deref(), Ok("plain"));
        assert_eq!(expanded("${HOME}/a${EMPTY}b/${HOME}").as_deref(), Ok("/home/me/ab//home/me"));
        assert_eq!(expanded("${MONEY}").as_deref(), Ok("${HOME}"));
        assert_eq!(expanded("5$$ ${HOME}$$").as_deref(), Ok("5$ /home/me$"));
        assert_eq!(expanded("$${HOME}").as_deref(), Ok("${HOME}"));
    }

    #[test]
    fn an_unset_variable_is_named() {
        assert_eq!(expanded("a${NOPE}"), Err(ExpandError::Unset("NOPE".to_owned())));
    }

    #[test]
    fn a_dollar_that_means_nothing_is_refused() {
        for text in ["$", "a$b", "${", "${HOME", "${}", "${1A}", "${A-B}", "${HOME:-x}", "$ {HOME}"]
        {
            assert_eq!(expanded(text), Err(ExpandError::LoneDollar), "{text:?}");
        }
    }
}
