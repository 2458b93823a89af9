//! Vector's components and how they are connected.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Node, Value};
use super::options::Options;
use super::out::Findings;

/// A component: its options, and what it hears of.
#[derive(Clone, Debug)]
struct Component {
    id: String,
    kind: String,
    options: Options,
    inputs: Vec<String>,
}

/// All components of a configuration.
#[derive(Debug)]
pub(super) struct Graph {
    sources: Vec<Component>,
    transforms: Vec<Component>,
    sinks: Vec<Component>,
}

/// What flows from Heroku to Splunk.
#[derive(Debug)]
pub(super) struct Flow {
    /// The sources, in the order of the file.
    pub(super) sources: Vec<Options>,
    /// The sinks with their names.
    pub(super) sinks: Vec<(String, Options)>,
}

const HEROKU: [&str; 2] = ["heroku_logs", "logplex"];
const SPLUNK: [&str; 2] = ["splunk_hec_logs", "splunk_hec"];

impl Graph {
    /// Takes the components out of a configuration.
    pub(super) fn of(root: &mut Options) -> Self {
        Self {
            sources: components(root, "sources"),
            transforms: components(root, "transforms"),
            sinks: components(root, "sinks"),
        }
    }

    /// Finds what flows from Heroku to Splunk, and tells what does not.
    pub(super) fn flow(self, findings: &mut Findings) -> Result<Flow, String> {
        let is_heroku = |kind: &str| HEROKU.contains(&kind);
        let mut heard = BTreeSet::new();
        let mut passed = BTreeSet::new();
        let mut sinks = Vec::new();
        for sink in &self.sinks {
            let reach = self.reach(sink);
            let heroku: BTreeSet<_> =
                reach.iter().filter(|one| is_heroku(&one.kind)).map(|one| one.id.clone()).collect();
            if heroku.is_empty() {
                tell(
                    sink,
                    "gets nothing from a heroku_logs source: it stays with Vector",
                    findings,
                );
                continue;
            }
            if !SPLUNK.contains(&sink.kind.as_str()) {
                let text = format!(
                    "of the type {} has no counterpart: keep Vector for it, with a drain of its own \
                     (`heroku drains:add`)",
                    sink.kind
                );
                tell(sink, &text, findings);
                continue;
            }
            for other in reach.iter().filter(|one| self.is_source(one) && !is_heroku(&one.kind)) {
                let text = format!(
                    "hears of {} too (type {}), which forebay does not read: leave it to Vector",
                    other.id, other.kind
                );
                tell(sink, &text, findings);
            }
            passed
                .extend(reach.iter().filter(|one| !self.is_source(one)).map(|one| one.id.clone()));
            heard.extend(heroku.iter().cloned());
            sinks.push((sink, heroku));
        }
        if sinks.is_empty() {
            return Err("no heroku_logs source is connected to a splunk_hec_logs sink: there is \
                        nothing to import"
                .to_owned());
        }
        for (sink, heroku) in &sinks {
            if *heroku != heard {
                let text = "got the drains of some sources only; a destination gets all drains: \
                            name its own in destination.filter.drains or .apps";
                tell(sink, text, findings);
            }
        }
        for transform in &self.transforms {
            if passed.contains(&transform.id) {
                tell(transform, &instead_of(&transform.kind), findings);
            } else {
                tell(
                    transform,
                    "is on no way from Heroku to Splunk: it stays with Vector",
                    findings,
                );
            }
        }
        for source in self.sources.iter().filter(|source| !heard.contains(&source.id)) {
            let text = match source.kind.as_str() {
                "internal_metrics" => "has no counterpart: Prometheus reads /metrics of [admin]",
                "internal_logs" => "has no counterpart: forebay's own log goes to the journal",
                _ => "is on no way from Heroku to Splunk: it stays with Vector",
            };
            tell(source, text, findings);
        }
        let sinks = sinks.into_iter().map(|(sink, _)| (sink.id.clone(), sink.options.clone()));
        let sinks = sinks.collect();
        let sources = self.sources.into_iter().filter(|source| heard.contains(&source.id));
        Ok(Flow { sources: sources.map(|source| source.options).collect(), sinks })
    }

    fn is_source(&self, component: &Component) -> bool {
        self.sources.iter().any(|source| source.id == component.id)
    }

    /// The transforms and sources that a sink hears of, over any number of transforms.
    fn reach(&self, sink: &Component) -> Vec<&Component> {
        let mut seen: BTreeMap<&str, &Component> = BTreeMap::new();
        let mut open: Vec<&str> = sink.inputs.iter().map(String::as_str).collect();
        while let Some(input) = open.pop() {
            for component in self.sources.iter().chain(&self.transforms) {
                if feeds(&component.id, input) && seen.insert(&component.id, component).is_none() {
                    open.extend(component.inputs.iter().map(String::as_str));
                }
            }
        }
        seen.into_values().collect()
    }
}

/// Whether an input, which may be a pattern or name one output of several, is this component.
fn feeds(id: &str, input: &str) -> bool {
    let output = input.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'));
    input == id || output || (input.contains('*') && matches(input, id))
}

/// A pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// The nearest right thing to a transform.
fn instead_of(kind: &str) -> String {
    let instead = match kind {
        "filter" => "see destination.filter: kinds, apps, severity, include, exclude",
        "remap" | "lua" => {
            "there is no program on the way; see destination.event for host, source, sourcetype, \
             index, fields and format, and Splunk's props.conf"
        }
        "route" | "exclusive_route" => "write a [[destination]] for each route, with a filter",
        "dedupe" => "what Logplex sends twice is stored once, and `| dedup event_id` does the rest",
        "sample" | "throttle" => "nothing is left out but by destination.filter",
        "reduce" => "messages stay single; join them in Splunk",
        "log_to_metric" => "see /metrics of [admin], or make metrics in Splunk",
        _ => "messages go to Splunk as they came",
    };
    format!("is a transform of the type {kind}, which has no counterpart: {instead}")
}

fn tell(component: &Component, text: &str, findings: &mut Findings) {
    findings.add(component.options.line, &*component.options.name, text);
}

fn components(root: &mut Options, section: &str) -> Vec<Component> {
    let Some(taken) = root.take(section) else { return Vec::new() };
    let Value::Table(entries) = taken.value else { return Vec::new() };
    let component = |(id, node): (String, Node)| {
        let mut options = Options::of(format!("{section}.{id}"), node);
        let mut look = options.clone();
        let inputs = look.list("inputs").into_iter().map(|(_, input)| input).collect();
        let kind = look.take("type");
        let kind = kind.as_ref().and_then(|kind| kind.value.text()).unwrap_or("unknown").to_owned();
        options.take("inputs");
        Component { id, kind, options, inputs }
    };
    entries.into_iter().map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_name_components_their_outputs_or_many() {
        for (id, input, expected) in [
            ("heroku", "heroku", true),
            ("route", "route.errors", true),
            ("heroku", "heroku2", false),
            ("heroku-eu", "heroku*", true),
            ("a-heroku", "*heroku", true),
            ("a-heroku-b", "*heroku", false),
            ("a-heroku-b", "a*her*b", true),
            ("x", "*", true),
        ] {
            assert_eq!(feeds(id, input), expected, "{id} {input}");
        }
    }
}
