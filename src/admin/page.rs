//! `/`: the status page. One document without anything from elsewhere.
//!
//! It is put together from `page/` when the program starts. Its `Content-Security-Policy` allows
//! just this script and these styles, by their hashes, and requests to where it came from; so even
//! a text that became part of the page as HTML, which no line of the script does, could not run or
//! fetch anything. `trusted-types 'none'` has the browser refuse such lines.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const HTML: &str = include_str!("page/index.html");
const STYLES: [&str; 2] =
    [include_str!("page/vendor/uPlot-1.6.32.min.css"), include_str!("page/page.css")];
const SCRIPTS: [&str; 4] = [
    include_str!("page/vendor/uPlot-1.6.32.iife.min.js"),
    include_str!("page/lib.js"),
    include_str!("page/actions.js"),
    include_str!("page/page.js"),
];

/// Where styles and script go. Comments of HTML and of nothing that is put there.
const STYLE_PLACE: &str = "<!-- style -->";
const SCRIPT_PLACE: &str = "<!-- script -->";

struct Page {
    document: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

impl Page {
    fn new() -> Self {
        let [library, own @ ..] = SCRIPTS;
        // A scope of its own: names of ours and of the browser's window do not meet.
        let script = format!("{library}\n(() => {{\n\"use strict\";\n{}\n}})();", own.join("\n"));
        let style = STYLES.join("\n");
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            hash(&script),
            hash(&style)
        );
        let document = HTML.replacen(STYLE_PLACE, &format!("<style>{style}</style>"), 1).replacen(
            SCRIPT_PLACE,
            &format!("<script>{script}</script>"),
            1,
        );
        Self { document, policy }
    }
}

pub(super) async fn page() -> Response {
    const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    let page = &*PAGE;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, page.policy.as_str()),
        // Another version may answer next time.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
    ];
    (headers, page.document.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_needs_nothing_from_elsewhere() {
        let page = Page::new();
        assert!(page.document.starts_with("<!doctype html>"));
        for place in [STYLE_PLACE, SCRIPT_PLACE] {
            assert_eq!(HTML.matches(place).count(), 1, "{place}");
            assert!(!page.document.contains(place), "{place}");
        }
        assert_eq!(page.document.matches("</script").count(), 1);
        assert_eq!(page.document.matches("</style").count(), 1);
        // Nothing is fetched by the markup, and nothing in it would be refused by the policy.
        for attribute in
            [" src=", " href=\"http", " style=", " onclick=", " onload=", "@import", "url("]
        {
            let own = [HTML, STYLES[1], SCRIPTS[1], SCRIPTS[2], SCRIPTS[3]].concat();
            assert!(!own.contains(attribute), "{attribute}");
        }
    }

    /// A text becomes HTML in no line, ours or uPlot's.
    #[test]
    fn no_script_makes_html_of_a_text() {
        for script in SCRIPTS {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(way), "{way}");
            }
        }
    }
}
