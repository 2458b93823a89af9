//! What commands beside `serve` need of a configuration: where the log is, where admin listens.
//!
//! Who asks how the relay does need not be able to read its secrets, so nothing else of the file
//! is looked at, and mistakes elsewhere in it are no concern here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::raw::RawSection;
use super::read::Reader;
use super::report::{Report, Reported};
use super::{Config, ConfigErrors, Env, read_file, resolve, syntax_mistakes, table};
use crate::admin::Listen;

/// A part of a configuration.
#[derive(Clone, Debug)]
pub struct Peek {
    /// Where the log is (`data_dir`).
    pub data_dir: PathBuf,
    /// Where admin listens (`admin.listen`).
    pub admin: Listen,
    /// The file with the token for changes (`admin.token_file`), if its name can be told here.
    pub admin_token_file: Option<PathBuf>,
    /// Where frames are taken (`ingest.listen`), if that is an address.
    pub ingest: Option<SocketAddr>,
    /// The path that takes frames (`ingest.path`).
    pub ingest_path: String,
    /// The drains that are known by name: token and app.
    pub drains: Vec<(String, String)>,
}

impl Config {
    /// Reads a part of the configuration from a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no TOML, and for mistakes in the part.
    pub fn peek(path: &Path, env: Env<'_>) -> Result<Peek, ConfigErrors> {
        let (name, text, _) = read_file(path)?;
        peek(&text, &name, env)
    }
}

fn peek(text: &str, name: &str, env: Env<'_>) -> Result<Peek, ConfigErrors> {
    // Mistakes in what is not looked at go here, and are not told.
    let mut elsewhere = Report::new(name, text, env);
    let mut report = Report::new(name, text, env);
    let (document, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        syntax_mistakes(&syntax, text, &mut report);
        return Err(report.into_errors());
    }
    let root = RawSection::of(document.get_ref(), &mut elsewhere);
    part(&root, &mut report, &mut elsewhere).map_err(|_| report.into_errors())
}

fn part(
    root: &RawSection<'_>,
    report: &mut Report<'_>,
    elsewhere: &mut Report<'_>,
) -> Result<Peek, Reported> {
    let data_dir = Reader::new(Some(root), report).path(&table::DATA_DIR);
    let admin = resolve::admin_listen(root, report);
    let token = Reader::new(root.one("admin"), elsewhere).written(&table::ADMIN_TOKEN_FILE);
    let mut ingest = Reader::new(root.one("ingest"), elsewhere);
    let (listen, path) = (ingest.text(&table::LISTEN), ingest.text(&table::PATH));
    let drains = resolve::known_drains(root, elsewhere);
    let token = token.ok().flatten().map(|words| PathBuf::from(words.value.text));
    Ok(Peek {
        data_dir: data_dir?.value,
        admin: admin?.value,
        admin_token_file: token,
        ingest: listen.ok().and_then(|listen| listen.value.text.parse().ok()),
        ingest_path: path.map_or_else(|_| "/logs".to_owned(), |path| path.value.text),
        drains: drains.map_or_else(
            |_| Vec::new(),
            |all| all.iter().map(|(token, info)| (token.clone(), info.app.clone())).collect(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_is_wrong_with_a_file_is_no_concern() {
        let text = "data_dir = \"/d\"\nrubbish = 1\n[ingest]\nlisten = \"127.0.0.1:1\"\npath = \"/x\"\n\
                    [[ingest.user]]\npassword_file = \"${NOT_SET}/p\"\n\
                    [[drain]]\ntoken = \"d.1\"\napp = \"shop\"\n\
                    [admin]\nlisten = \"unix:/run/a.sock\"\ntoken_file = \"${NOT_SET}/admin\"\n";
        let peek = peek(text, "f.toml", &|_| None).unwrap();
        assert_eq!(peek.data_dir, Path::new("/d"));
        assert_eq!(peek.admin.to_string(), "unix:/run/a.sock");
        assert_eq!(peek.admin_token_file, None);
        assert_eq!((peek.ingest, peek.ingest_path.as_str()), ("127.0.0.1:1".parse().ok(), "/x"));
        assert_eq!(peek.drains, [("d.1".to_owned(), "shop".to_owned())]);
    }

    #[test]
    fn what_is_wrong_with_the_part_is_told() {
        let message = |text| peek(text, "f.toml", &|_| None).unwrap_err().to_string();
        assert!(message("[admin]\nlisten = \"9600\"").contains("f.toml:2: admin.listen: "));
        assert!(message("data_dir = \"d\"").contains("f.toml:1: data_dir: "));
        assert!(message("data_dir =").contains("not TOML"));
    }
}
