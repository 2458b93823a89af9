//! Whether collectors acknowledge, and what `acknowledgement = "auto"` makes of it.

use super::{Finding, Outcome, Step};
use crate::delivery::Acknowledgement;

/// What it means that an endpoint acknowledges or not, or why that is not known.
pub(super) fn acknowledges(
    mode: Acknowledgement,
    said: &Result<bool, String>,
) -> (Outcome, String) {
    let (outcome, detail) = match (mode, said) {
        (_, Err(problem)) => (Outcome::Bad, problem.as_str()),
        (Acknowledgement::Required | Acknowledgement::Auto, Ok(true)) => (Outcome::Good, "on"),
        (Acknowledgement::Off, Ok(true)) => {
            (Outcome::Note, "on, and the destination does not wait for it")
        }
        (Acknowledgement::Required, Ok(false)) => (Outcome::Bad, "off for this token"),
        (Acknowledgement::Off | Acknowledgement::Auto, Ok(false)) => {
            (Outcome::Note, "off for this token")
        }
    };
    (outcome, detail.to_owned())
}

/// What would be chosen if the relay started now. Of each endpoint: what it has said, if anything.
pub(super) fn of(all: &[Option<bool>]) -> Finding {
    let off = all.iter().filter(|said| **said == Some(false)).count();
    let (outcome, detail) = if all.contains(&Some(true)) {
        let held = if off > 0 { "; the endpoints without it are held" } else { "" };
        (Outcome::Good, format!("would choose acknowledgement = \"required\"{held}"))
    } else if off == all.len() {
        let what = "would choose acknowledgement = \"off\": every endpoint says that it is off, and \
                    a 200 would count as delivered";
        (Outcome::Note, what.to_owned())
    } else {
        let what = "would choose nothing yet, and send nothing: no endpoint acknowledges, and not \
                    all have said that they do not";
        (Outcome::Bad, what.to_owned())
    };
    Finding { endpoint: "all endpoints".to_owned(), step: Step::Choice, outcome, detail }
}
