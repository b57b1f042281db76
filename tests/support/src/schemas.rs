//! Compares JSON with the schemas of `gateway/src/openapi.json`.
//!
//! It is stricter than the document. Clients must ignore fields that they do not know; here a field that is not described is an error, and so
//! is another order of the fields. A keyword that this does not understand is an error, too. `pattern` and `format` of other texts than times
//! are not compared.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The document with the schemas.
#[derive(Debug)]
pub struct Schemas {
    document: Value,
}

/// Properties that were seen, as `Schema.property`.
pub type Seen = BTreeSet<String>;

/// Keywords that allow nothing less.
const SILENT: [&str; 6] = [
    "description",
    "format",
    "pattern",
    "type",
    "required",
    "additionalProperties",
];

impl Schemas {
    /// # Panics
    /// The text is not JSON.
    #[must_use]
    pub fn of(document: &str) -> Self {
        let document = serde_json::from_str(document).expect("the document is JSON");
        Self { document }
    }

    /// Returns the properties of this schema, in their order.
    #[must_use]
    pub fn names_in(&self, schema: &str) -> Vec<String> {
        let properties = self.document["components"]["schemas"][schema]["properties"].as_object();
        let properties = properties.into_iter().flat_map(Map::keys);
        properties.cloned().collect()
    }

    /// Compares a value with the schema of this name. Returns its properties that were seen.
    ///
    /// # Errors
    /// What is different.
    pub fn check(&self, name: &str, value: &Value) -> Result<Seen, String> {
        let mut seen = Seen::new();
        self.compare(&reference_to(name), value, name, &mut seen)?;
        Ok(seen)
    }

    /// Compares a value with this property of a schema.
    ///
    /// # Errors
    /// What is different, or that there is no such property.
    pub fn check_property(
        &self,
        schema: &str,
        property: &str,
        value: &Value,
    ) -> Result<Seen, String> {
        let described = &self.document["components"]["schemas"][schema]["properties"][property];
        if described.is_null() {
            return Err(format!("{schema} does not describe {property}"));
        }
        let at = format!("{schema}.{property}");
        let mut seen = Seen::from([at.clone()]);
        self.compare(described, value, &at, &mut seen)?;
        Ok(seen)
    }

    /// Returns every property that a value of this schema may have.
    #[must_use]
    pub fn properties_of(&self, name: &str) -> Seen {
        let mut found = Seen::new();
        self.collect(&reference_to(name), name, &mut found);
        found
    }

    fn collect(&self, schema: &Value, at: &str, found: &mut Seen) {
        let name;
        let (schema, at) = match self.target(schema) {
            Some((referred, target)) => {
                name = referred;
                (target, name)
            }
            None => (schema, at),
        };
        let properties = schema["properties"].as_object();
        for (key, property) in properties.into_iter().flatten() {
            let at = format!("{at}.{key}");
            if found.insert(at.clone()) {
                self.collect(property, &at, found);
            }
        }
        for keyword in ["allOf", "anyOf"] {
            for part in schema[keyword].as_array().into_iter().flatten() {
                self.collect(part, at, found);
            }
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(keyword) {
                self.collect(schema, at, found);
            }
        }
    }

    /// Follows a reference. Returns the name and the schema.
    fn target<'a>(&'a self, schema: &'a Value) -> Option<(&'a str, &'a Value)> {
        let reference = schema.get("$ref")?.as_str()?;
        let name = reference.rsplit('/').next()?;
        let target = self.document.pointer(reference.strip_prefix('#')?)?;
        Some((name, target))
    }

    fn compare(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        seen: &mut Seen,
    ) -> Result<(), String> {
        if let Some((name, schema)) = self.target(schema) {
            return self.compare(schema, value, name, seen);
        }
        if schema.get("allOf").is_some() {
            return self.compare_properties(&self.joined(schema, at)?, value, at, seen);
        }
        let schema = schema.as_object().ok_or(format!("{at}: no schema"))?;
        if let Some(kinds) = schema.get("type") {
            check_kind(kinds, value, at)?;
        }
        for (keyword, wanted) in schema {
            let holds = match keyword.as_str() {
                "anyOf" => return self.compare_with_any(wanted, value, at, seen),
                "enum" => wanted.as_array().is_some_and(|words| words.contains(value)),
                "const" => wanted == value,
                "minimum" => value
                    .as_f64()
                    .is_none_or(|found| Some(found) >= wanted.as_f64()),
                "maximum" => value
                    .as_f64()
                    .is_none_or(|found| Some(found) <= wanted.as_f64()),
                "maxItems" => is_within(wanted, value.as_array().map(Vec::len)),
                "maxLength" => is_within(wanted, value.as_str().map(|text| text.chars().count())),
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.compare(wanted, item, at, seen)?;
                    }
                    true
                }
                "properties" => true,
                silent if SILENT.contains(&silent) => true,
                unknown => return Err(format!("{at}: `{unknown}` is not understood")),
            };
            if !holds {
                return Err(format!("{at}: {value} against {keyword} {wanted}"));
            }
        }
        if schema
            .get("format")
            .is_some_and(|format| format == "date-time")
        {
            check_time(value, at)?;
        }
        self.compare_properties(&Fields::of(schema), value, at, seen)
    }

    fn compare_with_any(
        &self,
        choices: &Value,
        value: &Value,
        at: &str,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let mut reasons = Vec::new();
        for choice in choices.as_array().into_iter().flatten() {
            let mut of_choice = Seen::new();
            match self.compare(choice, value, at, &mut of_choice) {
                Ok(()) => {
                    seen.extend(of_choice);
                    return Ok(());
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(format!("{at}: none of {reasons:?}"))
    }

    fn compare_properties(
        &self,
        fields: &Fields<'_>,
        value: &Value,
        at: &str,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let Some(found) = value.as_object() else {
            return Ok(());
        };
        if fields.is_open() {
            for field in found.values() {
                if let Some(schema) = fields.others {
                    self.compare(schema, field, at, seen)?;
                }
            }
            return Ok(());
        }
        let is_expected = |key: &str| found.contains_key(key) || fields.required.contains(&key);
        let expected: Vec<&str> = fields
            .properties
            .iter()
            .map(|(_, key, _)| *key)
            .filter(|key| is_expected(key))
            .collect();
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        if keys != expected {
            return Err(format!("{at}: has {keys:?}, described are {expected:?}"));
        }
        for (owner, key, property) in &fields.properties {
            if let Some(field) = found.get(*key) {
                let at = format!("{}.{key}", owner.unwrap_or(at));
                self.compare(property, field, &at, seen)?;
                seen.insert(at);
            }
        }
        Ok(())
    }

    /// Joins the fields of the parts of a schema.
    fn joined<'a>(&'a self, schema: &'a Value, at: &str) -> Result<Fields<'a>, String> {
        let mut joined = Fields::default();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (owner, part) = match self.target(part) {
                Some((name, target)) => (Some(name), target),
                None => (None, part),
            };
            let fields = if part.get("allOf").is_some() {
                self.joined(part, owner.unwrap_or(at))?
            } else {
                let part = part.as_object();
                Fields::of(part.ok_or(format!("{at}: a part that is no schema"))?)
            };
            joined.required.extend(fields.required);
            let properties = fields.properties.into_iter();
            joined
                .properties
                .extend(properties.map(|(own, key, property)| (own.or(owner), key, property)));
        }
        let required = schema["required"].as_array().into_iter().flatten();
        joined.required.extend(required.filter_map(Value::as_str));
        Ok(joined)
    }
}

/// The fields of an object.
#[derive(Debug, Default)]
struct Fields<'a> {
    required: Vec<&'a str>,
    /// The schema that describes it, if that is another one; the name; the schema of the value.
    properties: Vec<(Option<&'a str>, &'a str, &'a Value)>,
    /// The schema of fields of any name.
    others: Option<&'a Value>,
}

impl<'a> Fields<'a> {
    fn of(schema: &'a Map<String, Value>) -> Self {
        let texts = |keyword| {
            let texts = schema.get(keyword).and_then(Value::as_array);
            texts.into_iter().flatten().filter_map(Value::as_str)
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        Self {
            required: texts("required").collect(),
            properties: properties
                .map(|(key, property)| (None, key.as_str(), property))
                .collect(),
            others: schema.get("additionalProperties"),
        }
    }

    /// Whether any field may be there.
    fn is_open(&self) -> bool {
        self.properties.is_empty()
    }
}

fn reference_to(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn is_within(bound: &Value, length: Option<usize>) -> bool {
    let bound = bound.as_u64().and_then(|bound| usize::try_from(bound).ok());
    length.is_none_or(|length| Some(length) <= bound)
}

fn check_kind(kinds: &Value, value: &Value, at: &str) -> Result<(), String> {
    let is_kind = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    let is_one = match kinds.as_array() {
        Some(kinds) => kinds.iter().any(is_kind),
        None => is_kind(kinds),
    };
    if is_one {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not a {kinds}"))
    }
}

/// Times are in UTC, with milliseconds.
fn check_time(value: &Value, at: &str) -> Result<(), String> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let Some(text) = value.as_str() else {
        return Ok(());
    };
    let is_like = |(found, shape): (u8, &u8)| match shape {
        b'0' => found.is_ascii_digit(),
        other => found == *other,
    };
    if text.len() == SHAPE.len() && text.bytes().zip(SHAPE).all(is_like) {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not a time"))
    }
}

#[cfg(test)]
mod tests;
