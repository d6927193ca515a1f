//! Tests of reading tool descriptors and of the schema made from them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

use super::*;

fn read(tools: &str) -> Result<McpTools, String> {
    McpTools::read(tools).map_err(|why| why.to_string())
}

fn schema(tools: &str, domain: Option<&str>) -> Result<McpSchema, String> {
    let tools = read(tools)?;
    let catalogue = tools.worst_case(domain);
    let actions = McpActions {
        beside: &[],
        principals: &["Agent"],
        resources: &["Service"],
    };
    tools
        .schema(&catalogue, actions)
        .map_err(|why| why.to_string())
}

fn one(input: &str) -> String {
    format!(r#"[{{"name": "t", "inputSchema": {{"type": "object", "properties": {input}}}}}]"#)
}

#[test]
fn typed_arguments() {
    let text = r##"{"tools": [{"name": "ship-it", "inputSchema": {
        "type": "object",
        "$defs": {"Address": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
        "properties": {
            "how": {"enum": ["air", "sea"]},
            "price": {"type": "number"},
            "count": {"type": "integer"},
            "fast": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "to": {"$ref": "#/$defs/Address"},
            "via": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}]},
            "note": {"type": ["string", "null"]},
            "a \"b\"": {"type": "string"}
        },
        "required": ["how", "price", "to", "note"]
    }}]}"##;

    let made = schema(text, Some("post")).unwrap();

    for line in [
        "action \"post/destroy\" in [\"destroy\"];",
        "action \"ship-it\" in [\"post/destroy\"] appliesTo {",
        "      \"how\": String,",
        "      \"price\": decimal,",
        "      \"count\"?: Long,",
        "      \"fast\"?: Bool,",
        "      \"tags\"?: Set<String>,",
        "      \"to\": {",
        "        \"city\": String,",
        "      \"via\"?: {",
        "      \"note\"?: String,",
        "      \"a \\\"b\\\"\"?: String,",
    ] {
        assert!(
            made.text.lines().any(|other| other == line),
            "{line}\n{}",
            made.text
        );
    }
    assert!(made.left_out.is_empty());
}

#[test]
fn left_out() {
    for (input, why) in [
        (r#"{"a": {"type": "object"}}"#, "not declared"),
        (
            r#"{"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}"#,
            "several types",
        ),
        (r#"{"a": {}}"#, "no type that Cedar knows"),
        (r##"{"a": {"$ref": "#/properties/a"}}"##, "refers to itself"),
        (
            r#"{"a": {"type": "array", "items": {"type": ["string", "null"]}}}"#,
            "several types",
        ),
    ] {
        let made = schema(&one(input), None).unwrap();

        assert_eq!(made.left_out.len(), 1, "{input}");
        assert!(made.left_out[0].contains(why), "{:?}", made.left_out);
        assert!(!made.text.contains("action?:"), "{}", made.text);
    }
}

#[test]
fn the_worst_without_hints() {
    let hinted = |annotations: &str| {
        let text = format!(
            r#"[{{"name": "t", "annotations": {annotations},
                "inputSchema": {{"properties": {{"x": {{"type": "string"}}, "y": {{"type": "object"}}}}}}}}]"#
        );
        read(&text).unwrap().worst_case(None).remove(0)
    };

    let worst = hinted("{}");
    assert_eq!(worst.effect, Effects::Destroy);
    assert_eq!(worst.integrity, Integrity::Untrusted);
    assert_eq!(worst.confidentiality, Confidentiality::Private);
    assert!(worst.irreversible);
    assert_eq!(
        worst.sinks,
        ["x", "y"],
        "also what no policy can read is a sink"
    );
    let egress = hinted(r#"{"destructiveHint": false}"#);
    assert_eq!(egress.effect, Effects::Egress);
    let write = hinted(r#"{"destructiveHint": false, "openWorldHint": false}"#);
    assert_eq!(
        (write.effect, write.integrity, write.irreversible),
        (Effects::Write, Integrity::Untrusted, false),
        "a server cannot vouch for its own results"
    );
    let reads = hinted(r#"{"readOnlyHint": true}"#);
    assert_eq!(
        (reads.effect, reads.integrity, reads.sinks.len()),
        (Effects::Read, Integrity::Untrusted, 0)
    );
}

#[test]
fn arguments_are_named_typed_or_not() {
    let tools = read(
        r#"[{"name": "t", "inputSchema": {"properties": {"x": {"type": "string"}, "y.z": {"type": "object"}}}},
            {"name": "none", "parameters": null}]"#,
    )
    .unwrap();

    assert_eq!(tools.arguments("t"), ["x", "y.z"]);
    assert_eq!(
        tools.worst_case(None)[0].sinks,
        ["x"],
        "a dot would lead into an object"
    );
    assert!(tools.arguments("none").is_empty() && tools.arguments("other").is_empty());
}

#[test]
fn arguments_that_must_be_there_are_asked_for() {
    let made = |required: &str| {
        let text = format!(
            r#"[{{"name": "t", "inputSchema": {{"properties": {{"x": {{"type": "string"}}}}, "required": [{required}]}}}}]"#
        );
        schema(&text, None).unwrap().text
    };

    assert!(made("\"x\"").contains("    action: {"), "{}", made("\"x\""));
    assert!(made("").contains("    action?: {"), "{}", made(""));
}

#[test]
fn one_byte_is_another_descriptor() {
    let hash = |description: &str| {
        let text = format!(r#"[{{"name": "t", "description": "{description}"}}]"#);
        read(&text).unwrap().worst_case(None).remove(0).descriptor
    };
    let reordered = r#"[{"description": "Sends.", "name":  "t"}]"#;

    assert_ne!(hash("Sends."), hash("Sends!"));
    assert_eq!(
        hash("Sends."),
        read(reordered)
            .unwrap()
            .worst_case(None)
            .remove(0)
            .descriptor
    );
}

#[test]
fn refused_by_name() {
    let long = "n".repeat(129);
    let many: Vec<String> = (0..257).map(|n| format!(r#""a{n}": {{}}"#)).collect();
    let huge = "d".repeat(DESCRIPTOR_BYTES);
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let crowd: Vec<String> = (0..1_001)
        .map(|n| format!(r#"{{"name": "t{n}"}}"#))
        .collect();
    for (text, expected) in [
        (r#"{"a": 1}"#.to_owned(), "expected an array of tools"),
        (
            r#"[{"name": "t"}, {"name": "t"}]"#.to_owned(),
            "tool `t`: the list has it twice",
        ),
        (
            r#"[{"name": "t", "name": "u"}]"#.to_owned(),
            "`name` stands twice in one object",
        ),
        (
            r#"[{"description": "d"}]"#.to_owned(),
            "tool `#1`: has no `name`",
        ),
        (format!(r#"[{{"name": "{long}"}}]"#), "the most is 128"),
        (r#"[{"name": ""}]"#.to_owned(), "its name is empty"),
        (r#"[{"name": "a\u0000"}]"#.to_owned(), "control character"),
        (r#"[{"name": "e\u0301"}]"#.to_owned(), "NFC"),
        (
            r#"[{"name": "read"}]"#.to_owned(),
            "tool `read`: an action or an action group",
        ),
        (
            r#"[{"name": "d/destroy"}]"#.to_owned(),
            "tool `d/destroy`: an action",
        ),
        (
            one(r#"{"__entity": {"type": "string"}}"#),
            "`__entity` is reserved",
        ),
        (one(&format!("{{{}}}", many.join(","))), "257 arguments"),
        (
            format!(r#"[{{"name": "t", "description": "{huge}"}}]"#),
            "the most is 262144",
        ),
        (
            format!(r#"[{{"name": "t", "x": {deep}}}]"#),
            "nests deeper than 32",
        ),
        (format!("[{}]", crowd.join(",")), "1001 tools"),
        (
            r#"[{"name": "t", "inputSchema": {"type": "array"}}]"#.to_owned(),
            "of the type `object`",
        ),
        (
            r#"[{"name": "t", "annotations": {"readOnlyHint": "yes"}}]"#.to_owned(),
            "`annotations.readOnlyHint`",
        ),
    ] {
        let refusal = schema(&text, Some("d")).unwrap_err();

        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn a_bomb_of_references_is_left_out() {
    // Each refers twice to the next: written out, 2^30 members.
    let defs: Vec<String> = (0..30)
        .map(|n| {
            format!(
                r##""d{n}": {{"type": "object", "properties": {{"l": {{"$ref": "#/$defs/d{m}"}}, "r": {{"$ref": "#/$defs/d{m}"}}}}}}"##,
                m = n + 1
            )
        })
        .collect();
    let text = format!(
        r##"[{{"name": "t", "inputSchema": {{"$defs": {{{}}}, "properties": {{"a": {{"$ref": "#/$defs/d0"}}}}}}}}]"##,
        defs.join(",")
    );

    assert_eq!(schema(&text, None).unwrap().left_out.len(), 1);
}

#[test]
fn beside_other_files() {
    let base = Source {
        file: "schema.cedarschema".to_owned(),
        text: "entity Agent; entity Service; action read; action open_task;".to_owned(),
    };
    let tools = read(r#"[{"name": "open_task"}]"#).unwrap();
    let actions = McpActions {
        beside: std::slice::from_ref(&base),
        principals: &["Agent"],
        resources: &["Service"],
    };
    let refusal = tools.schema(&tools.worst_case(None), actions).unwrap_err();
    assert!(refusal.to_string().contains("`open_task`"), "{refusal}");

    let tools = read(r#"[{"name": "look"}]"#).unwrap();
    let made = tools.schema(&tools.worst_case(None), actions).unwrap();
    assert!(!made.text.contains("action \"read\";"), "{}", made.text);
    assert!(!made.text.contains("entity"), "{}", made.text);
    let elsewhere = McpActions {
        resources: &["Nowhere"],
        ..actions
    };
    assert!(tools.schema(&tools.worst_case(None), elsewhere).is_err());
    let crafted = McpActions {
        resources: &["A]; entity B; //"],
        ..actions
    };
    assert!(tools.schema(&tools.worst_case(None), crafted).is_err());
}
