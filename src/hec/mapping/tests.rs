use super::*;

fn errors(config: &MappingConfig) -> Vec<(String, String)> {
    let errors = Mapping::compile(config).err().unwrap_or_default();
    errors.into_iter().map(|error| (error.key, error.message)).collect()
}

fn with_host(template: &str) -> MappingConfig {
    MappingConfig { host: Some(template.to_owned()), ..MappingConfig::default() }
}

fn with_field(name: &str, template: &str) -> MappingConfig {
    let fields = [(name.to_owned(), template.to_owned())].into();
    MappingConfig { fields, ..MappingConfig::default() }
}

fn variables<'a>(query: &'a Arc<Query>, kind: Kind) -> Variables<'a> {
    Variables {
        app: "checkout".into(),
        drain: "drain",
        host: "hostname".into(),
        app_name: "app".into(),
        proc_id: "web.1".into(),
        proc_type: "web".into(),
        severity: "info",
        facility: "local7",
        kind,
        query,
    }
}

fn render(config: &MappingConfig, query: &str) -> Rendered {
    let query = Arc::new(Query::parse(query));
    Mapping::compile(config).unwrap().render(&variables(&query, Kind::Router), None)
}

#[test]
fn defaults_are_the_documented_templates() {
    let written = MappingConfig {
        host: Some("{{ app }}".to_owned()),
        source: Some("heroku:{{ app }}:{{ app_name }}/{{ proc_type }}".to_owned()),
        sourcetype: Some("heroku:{{ kind }}".to_owned()),
        ..MappingConfig::default()
    };
    let default = render(&MappingConfig::default(), "");
    assert_eq!(render(&written, ""), default);
    assert_eq!(default.host, "checkout");
    assert_eq!(default.source, "heroku:checkout:app/web");
    assert_eq!(default.sourcetype, "heroku:router");
    assert_eq!(default.index, None);
    assert_eq!((default.fields, default.failed), (vec![], None));
}

#[test]
fn every_variable_can_be_used() {
    let all: Vec<_> = VARIABLES
        .iter()
        .filter(|name| **name != "query")
        .map(|n| format!("{{{{ {n} }}}}"))
        .collect();
    let rendered = render(&with_host(&(all.join(" ") + " {{ query.team }}")), "team=blue");
    assert_eq!(rendered.host, "checkout drain hostname app web.1 web info local7 router blue");
}

#[test]
fn a_parameter_that_is_absent_is_empty() {
    let conditional = "{% if query.team %}{{ query.team }}{% else %}nobody{% endif %}";
    assert_eq!(render(&with_host(conditional), "").host, "nobody");
    assert_eq!(render(&with_host(conditional), "team=a%26b").host, "a&b");
    assert_eq!(render(&with_host("{{ query['x-y'] }}"), "x-y=1").host, "1");
}

#[test]
fn what_renders_to_nothing_leaves_the_default() {
    let config = MappingConfig {
        host: Some("{{ query.host }}".to_owned()),
        index: Some(" {{ query.index }} ".to_owned()),
        ..with_field("team", "{{ query.team }}")
    };
    let rendered = render(&config, "");
    assert_eq!(rendered.host, "checkout");
    assert_eq!((rendered.index, rendered.fields, rendered.failed), (None, vec![], None));
    let rendered = render(&config, "host=h&index=i&team=t");
    assert_eq!(rendered.host, "h");
    assert_eq!(rendered.fields, [("team".to_owned(), "t".to_owned())]);
}

#[test]
fn text_is_not_escaped_for_html() {
    assert_eq!(render(&with_host("{{ query.a }}<&>"), "a=<%22'>").host, "<\"'><&>");
}

#[test]
fn unknown_variables_are_found_in_every_branch() {
    for template in ["{{ ap }}", "{% if kind == 'nothing' %}{{ ap }}{% endif %}", "{{ ap.x }}"] {
        let errors = errors(&with_host(template));
        assert_eq!(errors.len(), 1, "{template}");
        assert_eq!(errors[0].0, "host");
        assert!(errors[0].1.starts_with("`ap` is no variable"), "{}", errors[0].1);
    }
    assert_eq!(errors(&with_host("{% set x = app %}{{ x }}{{ range(3) | join }}")), []);
}

#[test]
fn wrong_templates_are_refused_before_the_first_message() {
    for template in [
        "{{ app",
        "{% if app %}",
        "{{ app | no_such_filter }}",
        "{{ app.name }}",
        "{{ query.a.b }}",
        "{{ 1 // 0 }}",
        "{% if kind == 'router' %}{{ app | no_such_filter }}{% endif %}",
    ] {
        assert_eq!(errors(&with_host(template)).len(), 1, "{template}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let config = MappingConfig {
        host: Some("{{ nope }}".to_owned()),
        index: Some("{{".to_owned()),
        kinds: Some(vec![]),
        ..with_field("source", "x")
    };
    let keys: Vec<_> = errors(&config).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["host", "index", "fields.source", "kinds"]);
}

#[test]
fn field_names() {
    for name in ["env", "Team.name", "a:b", "x1"] {
        assert_eq!(errors(&with_field(name, "x")), [], "{name}");
    }
    for (name, message) in [
        ("", "a field needs a name"),
        ("a b", "a field name is made of letters, digits, `.`, `:` and `_`, not ` `"),
        ("a-b", "a field name is made of letters, digits, `.`, `:` and `_`, not `-`"),
        ("\u{e9}", "a field name is made of letters, digits, `.`, `:` and `_`, not `\u{e9}`"),
        ("1a", "a field name cannot begin with a digit"),
        ("_raw", "`_raw` is a field that Splunk keeps to itself"),
        ("host", "`host` is a field that Splunk keeps to itself"),
        ("date_hour", "`date_hour` is a field that Splunk keeps to itself"),
        ("event_id", "`event_id` is a field that forebay writes itself"),
        ("forebay_replay", "`forebay_replay` is a field that forebay writes itself"),
    ] {
        let key = format!("fields.{name}");
        assert_eq!(errors(&with_field(name, "x")), [(key, message.to_owned())], "{name}");
    }
}

#[test]
fn a_template_that_fails_for_one_message_gives_way_to_the_default() {
    let config = with_field("n", "{% if query.n %}{{ query.n | int }}{% else %}0{% endif %}");
    assert_eq!(render(&config, "n=7").fields, [("n".to_owned(), "7".to_owned())]);
    let rendered = render(&config, "n=seven");
    assert_eq!((rendered.fields, rendered.failed), (vec![], Some("fields.n".to_owned())));

    let host = with_host("{% if query.n %}{{ query.n | int }}{% else %}h{% endif %}");
    let rendered = render(&host, "n=seven");
    assert_eq!((rendered.host.as_str(), rendered.failed.as_deref()), ("checkout", Some("host")));
}

#[test]
fn debug_shows_no_drain_token() {
    let drains = Arc::new(
        [("d.secret".to_owned(), DrainInfo { app: "a".to_owned(), ..DrainInfo::default() })].into(),
    );
    let filter = Filter { drains: Some(vec!["d.secret".to_owned()]), ..Filter::default() };
    let config = MappingConfig { drains, filter, ..MappingConfig::default() };
    assert!(!format!("{config:?}").contains("secret"));
    assert!(!format!("{:?}", DrainSettings::of(&config)).contains("secret"));
}

#[test]
fn patterns_are_checked_and_bounded() {
    let with = |include: &[&str]| {
        let include = include.iter().map(|&pattern| pattern.to_owned()).collect();
        MappingConfig { filter: Filter { include, ..Filter::default() }, ..Default::default() }
    };
    assert!(errors(&with(&["a|b", "^x$"])).is_empty());
    let found = errors(&with(&["fine", "a(b", r"\w{1000}{1000}"]));
    let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["include.1", "include.2"]);
    assert_eq!(found[0].1, "this is no regular expression: unclosed group");
    assert_eq!(found[1].1, "the regular expression is too large");
}

#[test]
fn mistakes_of_a_drain_are_found_with_the_drain() {
    let info = DrainInfo {
        host: Some("{{ nothing }}".to_owned()),
        index: Some("{{".to_owned()),
        fields: [("host".to_owned(), "x".to_owned())].into(),
        ..DrainInfo::default()
    };
    let found = info.check().unwrap_err();
    let keys: Vec<_> = found.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["host", "index", "fields.host"]);
    assert!(DrainInfo::default().check().is_ok());
    // The token is in no message.
    let drains = Arc::new([("d.secret".to_owned(), info)].into());
    let found = errors(&MappingConfig { drains, ..MappingConfig::default() });
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|(key, message)| !format!("{key}{message}").contains("secret")));
}

#[test]
fn listed_parameters_have_names_that_fields_can_have() {
    let config = MappingConfig {
        query: Some(vec!["app".into(), "index".into(), "team".into(), "_x".into()]),
        ..MappingConfig::default()
    };
    let found = errors(&config);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "query");
    assert!(found[0].1.contains("`_x`"), "{found:?}");
}
