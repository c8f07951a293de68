//! Reading a JSON object field by field, so that what was not asked for is known at the end.

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::nearest::did_you_mean;

/// Why a rendered task definition cannot be registered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DefinitionError {
    /// The rendered text is not JSON.
    #[error("the rendered task definition is not JSON: {message}\n  line {line} reads: {text}")]
    Json {
        /// The parser's message.
        message: String,
        /// Line of the rendered text, from 1.
        line: usize,
        /// That line.
        text: String,
    },
    /// A field that `RegisterTaskDefinition` does not have.
    #[error("`{path}`: RegisterTaskDefinition has no such field{hint}")]
    Unknown {
        /// Path of the field.
        path: String,
        /// The nearest known field.
        hint: String,
    },
    /// A field that a service fills in, copied from `DescribeTaskDefinition`.
    #[error("`{path}` is an answer of ECS and cannot be sent; remove it")]
    ResponseOnly {
        /// Path of the field.
        path: String,
    },
    /// A field that exists, but not for tasks on Fargate.
    #[error("`{path}` does not exist for tasks on Fargate; remove it")]
    NotOnFargate {
        /// Path of the field.
        path: String,
    },
    /// A field that must be there.
    #[error("`{path}` is missing")]
    Missing {
        /// Path of the field.
        path: String,
    },
    /// A value of the wrong kind, or outside its range.
    #[error("`{path}`: {message}")]
    Wrong {
        /// Path of the field.
        path: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// One object with its path; remembers what was asked for.
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    asked: RefCell<Vec<&'static str>>,
}

/// A result of reading.
pub type Read<T> = Result<T, DefinitionError>;

impl<'a> Fields<'a> {
    /// The object at `path`; empty for the whole document.
    pub fn new(path: &str, value: &'a Value) -> Read<Fields<'a>> {
        let map = value
            .as_object()
            .ok_or_else(|| wrong(path, format!("expected an object, found {}", kind(value))))?;
        Ok(Fields {
            path: path.to_owned(),
            map,
            asked: RefCell::new(Vec::new()),
        })
    }

    /// The path of a field of this object.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Ends the reading: anything left is an error. `elsewhere` are fields that exist in the API
    /// but not on Fargate, `answers` those of the response.
    pub fn end(self, elsewhere: &[&str], answers: &[&str]) -> Read<()> {
        let asked = self.asked.borrow();
        for name in self.map.keys() {
            if asked.contains(&name.as_str()) {
                continue;
            }
            let path = self.at(name);
            if elsewhere.contains(&name.as_str()) {
                return Err(DefinitionError::NotOnFargate { path });
            }
            if answers.contains(&name.as_str()) {
                return Err(DefinitionError::ResponseOnly { path });
            }
            let hint = did_you_mean(name, asked.iter().copied());
            return Err(DefinitionError::Unknown { path, hint });
        }
        Ok(())
    }

    /// A field that must be there.
    pub fn required<T>(&self, name: &'static str, value: Option<T>) -> Read<T> {
        value.ok_or_else(|| DefinitionError::Missing {
            path: self.at(name),
        })
    }

    /// A string.
    pub fn string(&self, name: &'static str) -> Read<Option<String>> {
        self.get(name)
            .map(|value| text(&self.at(name), value))
            .transpose()
    }

    /// A number as a string: ECS takes `cpu` and `memory` of a task as strings, people write both.
    pub fn number_text(&self, name: &'static str) -> Read<Option<String>> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(value) => text(&self.at(name), value).map(Some),
            None => Ok(None),
        }
    }

    /// An integer.
    pub fn integer(&self, name: &'static str) -> Read<Option<i32>> {
        self.get(name)
            .map(|value| integer(&self.at(name), value))
            .transpose()
    }

    /// An integer between two bounds, both allowed.
    pub fn integer_within(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<i32>,
    ) -> Read<Option<i32>> {
        let value = self.integer(name)?;
        if let Some(number) = value
            && !range.contains(&number)
        {
            return Err(wrong(
                &self.at(name),
                format!(
                    "{number} is not between {} and {}",
                    range.start(),
                    range.end()
                ),
            ));
        }
        Ok(value)
    }

    /// A boolean.
    pub fn boolean(&self, name: &'static str) -> Read<Option<bool>> {
        self.get(name)
            .map(|value| {
                value.as_bool().ok_or_else(|| {
                    wrong(
                        &self.at(name),
                        format!("expected true or false, found {}", kind(value)),
                    )
                })
            })
            .transpose()
    }

    /// A string out of a closed set.
    pub fn choice<T: for<'s> From<&'s str>>(
        &self,
        name: &'static str,
        known: &[&str],
    ) -> Read<Option<T>> {
        let Some(value) = self.string(name)? else {
            return Ok(None);
        };
        one_of(&self.at(name), &value, known).map(|value| Some(T::from(value)))
    }

    /// A list, each element read by `read` with its path.
    pub fn list<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str, &'a Value) -> Read<T>,
    ) -> Read<Option<Vec<T>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let path = self.at(name);
        let items = value
            .as_array()
            .ok_or_else(|| wrong(&path, format!("expected a list, found {}", kind(value))))?;
        items
            .iter()
            .enumerate()
            .map(|(index, item)| read(&format!("{path}[{index}]"), item))
            .collect::<Read<Vec<T>>>()
            .map(Some)
    }

    /// A list of strings.
    pub fn strings(&self, name: &'static str) -> Read<Option<Vec<String>>> {
        self.list(name, text)
    }

    /// An object, read by `read` with its path.
    pub fn object<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str, &'a Value) -> Read<T>,
    ) -> Read<Option<T>> {
        self.get(name)
            .map(|value| read(&self.at(name), value))
            .transpose()
    }

    /// An object of strings.
    pub fn map(&self, name: &'static str) -> Read<Option<HashMap<String, String>>> {
        self.object(name, |path, value| {
            let object = value
                .as_object()
                .ok_or_else(|| wrong(path, format!("expected an object, found {}", kind(value))))?;
            object
                .iter()
                .map(|(key, value)| Ok((key.clone(), text(&format!("{path}.{key}"), value)?)))
                .collect()
        })
    }
}

/// An error about the value at `path`.
pub fn wrong(path: &str, message: impl Into<String>) -> DefinitionError {
    DefinitionError::Wrong {
        path: path.to_owned(),
        message: message.into(),
    }
}

/// A string.
pub fn text(path: &str, value: &Value) -> Read<String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| wrong(path, format!("expected a string, found {}", kind(value))))
}

/// An integer that the API's 32 bits hold.
pub fn integer(path: &str, value: &Value) -> Read<i32> {
    value
        .as_i64()
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| {
            wrong(
                path,
                format!("expected a whole number, found {}", kind(value)),
            )
        })
}

/// A string out of a closed set.
pub fn one_of<'v>(path: &str, value: &'v str, known: &[&str]) -> Read<&'v str> {
    if known.contains(&value) {
        return Ok(value);
    }
    Err(wrong(
        path,
        format!(
            "`{value}` is not one of {}{}",
            known.join(", "),
            did_you_mean(value, known.iter().copied())
        ),
    ))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string \"{text}\""),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
