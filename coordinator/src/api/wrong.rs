//! What is wrong with JSON that is none of what was asked for, as a person would say it. The library that reads it speaks of
//! Rust's types; here the same is read again, with an error of our own that speaks of what was sent.

use std::convert::Infallible;
use std::fmt::{self, Display};

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// Of a text that is cited there are so many characters at most.
const CITED_CHARS: usize = 40;

/// Why `value` is no `T`, with the place: a clause without a full stop. `None` if it is one.
pub(super) fn with<T: DeserializeOwned>(value: &Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(Node(value)).err()?;
    let path = error.path().to_string();
    Some(match (error.into_inner(), path.as_str()) {
        (Wrong::Clause(clause), ".") => clause,
        (Wrong::Clause(clause), path) => format!("{path}: {clause}"),
        (Wrong::Predicate(predicate), ".") => format!("it {predicate}"),
        (Wrong::Predicate(predicate), path) => format!("{path} {predicate}"),
    })
}

/// What is said of it.
#[derive(Debug)]
enum Wrong {
    /// A sentence of its own, by whoever checks it.
    Clause(String),
    /// What follows on the name of the place.
    Predicate(String),
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Clause(words) | Wrong::Predicate(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: Display>(said: T) -> Wrong {
        Wrong::Clause(said.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Wrong {
        Wrong::Predicate(format!("must be {}, not {}", wanted(expected), cited(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Wrong {
        Wrong::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Wrong {
        Wrong::Predicate(format!("must be {}, and has {length} parts", wanted(expected)))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Wrong {
        Wrong::Predicate(format!("must be {}, not {}", known.join(" or "), cited(Unexpected::Str(found))))
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Wrong {
        let found = cited(Unexpected::Str(found));
        Wrong::Predicate(match known {
            [] => format!("is {found}, where nothing belongs"),
            known => format!("is not known here; what may be said is {}", known.join(", ")),
        })
    }

    fn missing_field(field: &'static str) -> Wrong {
        Wrong::Predicate(format!("lacks {field}"))
    }

    fn duplicate_field(field: &'static str) -> Wrong {
        Wrong::Predicate(format!("says {field} twice"))
    }
}

/// What belongs there. The names of Rust's types are the only words that nobody chose for people.
fn wanted(expected: &dyn Expected) -> String {
    let said = expected.to_string();
    let upto = |most: u64| format!("a whole number from 0 to {most}");
    match said.as_str() {
        "u8" => upto(u8::MAX.into()),
        "u16" => upto(u16::MAX.into()),
        "u32" => upto(u32::MAX.into()),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        type_name if type_name.starts_with("struct ") || type_name.contains("tagged enum ") => {
            "an object".to_owned()
        }
        other => other.to_owned(),
    }
}

/// What stands there.
fn cited(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(bool) => bool.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(text) => {
            let cut = text.char_indices().nth(CITED_CHARS);
            cut.map_or_else(|| format!("{text:?}"), |(at, _)| format!("{:?}…", &text[..at]))
        }
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// JSON that is read with errors of our own.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Value);

type Fields<'a> = MapDeserializer<'a, Box<dyn Iterator<Item = (&'a str, Node<'a>)> + 'a>, Wrong>;

impl<'a> Node<'a> {
    fn fields(object: &'a Map<String, Value>) -> Fields<'a> {
        MapDeserializer::new(Box::new(object.iter().map(|(key, value)| (key.as_str(), Node(value)))))
    }
}

impl<'a> IntoDeserializer<'a, Wrong> for Node<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Node))),
            Value::Object(object) => visitor.visit_map(Node::fields(object)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Object(object) => visitor.visit_enum(MapAccessDeserializer::new(Node::fields(object))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                match self.deserialize_any(Name)? {}
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// Takes nothing that is no text.
struct Name;

impl Visitor<'_> for Name {
    type Value = Infallible;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text")
    }
}
