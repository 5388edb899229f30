//! The document, and as much of JSON Schema 2020-12 as it uses. A keyword that is not known here fails the test.
//!
//! `pattern` is not compared: there is no regular expression among the crates of this project. `tests/tools/schemathesis`
//! holds the same document, with every keyword, against a running agent.

use serde_json::{Map, Value};

use crate::control::pages::OPENAPI;

/// `openapi.json`.
pub(super) struct Document(Value);

impl Document {
    pub(super) fn new() -> Self {
        Self(serde_json::from_str(OPENAPI).expect("JSON"))
    }

    /// What a JSON pointer points at.
    pub(super) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}"))
    }

    pub(super) fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text"))
    }

    /// Path, method and description of each call.
    pub(super) fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let paths = self.at("/paths").as_object().expect("paths");
        let items = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().expect("a path item");
            item.iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        });
        items.filter(|(_, method, _)| *method != "parameters").collect()
    }

    /// What stands behind a `$ref`, or the value itself.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        value.get("$ref").map_or(value, |target| self.at(target.as_str().expect("text").trim_start_matches('#')))
    }

    /// Follows all references; returns how many there are.
    pub(super) fn check_references(&self) -> usize {
        let mut count = 0;
        walk(&self.0, &mut |object| {
            if object.contains_key("$ref") {
                self.resolve(&Value::Object(object.clone()));
                count += 1;
            }
        });
        count
    }

    /// Holds all examples against their schemas; returns how many there are.
    pub(super) fn check_examples(&self) -> usize {
        let mut count = 0;
        walk(&self.0, &mut |object| {
            if let (Some(schema), Some(example)) = (object.get("schema"), object.get("example")) {
                self.validate(schema, example).expect("the example is valid");
                count += 1;
            }
            for example in object.get("examples").and_then(Value::as_array).into_iter().flatten() {
                self.validate(&Value::Object(object.clone()), example).expect("the example is valid");
                count += 1;
            }
        });
        count
    }

    /// Holds a value against a schema.
    ///
    /// # Errors
    /// Where it is not valid.
    pub(super) fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema).as_object().expect("a schema");
        let fault = |keyword: &str| Err(format!("{keyword} {} of {value}", schema[keyword]));
        for (keyword, wanted) in schema {
            let is_valid = match keyword.as_str() {
                "description" | "examples" | "pattern" | "propertyNames" | "format" | "contentMediaType" => true,
                "contentSchema" => {
                    let text = value.as_str().expect("content is text");
                    self.validate(wanted, &serde_json::from_str(text).map_err(|error| error.to_string())?)?;
                    true
                }
                "type" => match wanted {
                    Value::Array(types) => types.iter().any(|name| is_of(name, value)),
                    name => is_of(name, value),
                },
                "enum" => wanted.as_array().is_some_and(|allowed| allowed.contains(value)),
                "const" => wanted == value,
                "required" => wanted.as_array().into_iter().flatten().all(|name| {
                    value.as_object().is_none_or(|object| object.contains_key(name.as_str().expect("a name")))
                }),
                "properties" => {
                    for (name, schema) in wanted.as_object().expect("properties") {
                        if let Some(value) = value.get(name) {
                            self.validate(schema, value)?;
                        }
                    }
                    true
                }
                "items" => {
                    value.as_array().into_iter().flatten().try_for_each(|item| self.validate(wanted, item))?;
                    true
                }
                "anyOf" => {
                    let one = wanted.as_array().expect("schemas").iter().map(|schema| self.validate(schema, value));
                    let faults: Vec<_> = one.filter_map(Result::err).collect();
                    if faults.len() == wanted.as_array().map_or(0, Vec::len) {
                        return Err(faults.join(", and "));
                    }
                    true
                }
                "minimum" => !value.is_number() || value.as_u64() >= wanted.as_u64(),
                "maximum" => value.as_u64() <= wanted.as_u64(),
                "maxItems" => value.as_array().map(Vec::len) <= size(wanted),
                "minLength" => value.as_str().is_none_or(|text| Some(text.chars().count()) >= size(wanted)),
                "maxLength" => value.as_str().is_none_or(|text| Some(text.chars().count()) <= size(wanted)),
                other => panic!("{other} is a keyword that is not known here"),
            };
            if !is_valid {
                return fault(keyword);
            }
        }
        Ok(())
    }

    /// The fields of an object that its schema does not name, at any depth.
    pub(super) fn unnamed(&self, schema: &Value, value: &Value) -> Vec<String> {
        let schema = self.resolve(schema);
        for schema in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
            if self.validate(schema, value).is_ok() {
                return self.unnamed(schema, value);
            }
        }
        let mut unnamed = Vec::new();
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match schema.get("properties").and_then(|properties| properties.get(name)) {
                        Some(schema) => unnamed.extend(self.unnamed(schema, value)),
                        None => unnamed.push(name.clone()),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    unnamed.extend(schema.get("items").map(|schema| self.unnamed(schema, item)).unwrap_or_default());
                }
            }
            _ => {}
        }
        unnamed
    }
}

fn size(wanted: &Value) -> Option<usize> {
    wanted.as_u64().and_then(|size| usize::try_from(size).ok())
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is a type that is not known here"),
    }
}

fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn what_is_not_valid_is_told() {
    let document = Document::new();
    let schema = document.at("/components/schemas/Unlock");
    let valid = &schema["examples"][0];
    assert_eq!(document.validate(schema, valid), Ok(()));
    for (pointer, wrong) in [
        ("/state", Value::from("unlocked")),
        ("/state", Value::Null),
        ("/error", Value::from("none")),
        ("/error", serde_json::json!({"code": "no_such_code", "message": "", "next": ""})),
        ("/error", serde_json::json!({"code": "no_space", "message": "x".repeat(513), "next": ""})),
        ("/progress/images_done", Value::from(-1)),
        ("/progress/images_done", Value::from("3")),
        ("/progress", serde_json::json!({})),
    ] {
        let mut value = valid.clone();
        *value.pointer_mut(pointer).expect("a place") = wrong;
        assert!(document.validate(schema, &value).is_err(), "{value}");
    }
    let mut more = valid.clone();
    more["progress"]["speed"] = 1.into();
    assert_eq!(document.unnamed(schema, &more), ["speed"]);
}
