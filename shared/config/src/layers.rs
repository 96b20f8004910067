//! The layers themselves, and how the `config` crate lays them over each other.
//!
//! Every layer is reduced to the same shape, key to list of texts, before they are merged: a value means the same
//! whichever layer it came from, and it is typed once, at the end, by the declaration of its flag.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use config::{Config, Map, Source, Value, ValueKind};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::schema::{FlagKind, FlagSpec, Schema};
use crate::{Error, Origin, suggest};

/// One layer: the values of some flags, by key.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    origin: Origin,
    values: BTreeMap<String, Vec<String>>,
}

/// What is in effect for one flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

impl Layer {
    pub(crate) fn new(origin: Origin, values: BTreeMap<String, Vec<String>>) -> Self {
        Self { origin, values }
    }

    /// Returns the defaults of the declaration.
    pub(crate) fn defaults(schema: &Schema) -> Self {
        let values = schema.flags().filter(|f| !f.default.is_empty()).map(|f| (f.key.clone(), f.default.clone()));
        Self::new(Origin::Default, values.collect())
    }

    /// Returns what the environment says. Lists are separated by commas.
    ///
    /// Variables that belong to no flag are left alone: Kubernetes puts `FARVIEW_QUERY_PORT` and its like into every pod
    /// beside a service called `farview-query`. An empty variable counts as not set, as manifests often leave one behind.
    pub(crate) fn env(schema: &Schema, env: impl Fn(&str) -> Option<String>) -> Self {
        let values = schema.flags().filter_map(|f| {
            let text = env(&f.env).filter(|v| !v.is_empty())?;
            let values = match f.kind {
                FlagKind::List => text.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect(),
                FlagKind::Switch | FlagKind::Value => vec![text],
            };
            Some((f.key.clone(), values))
        });
        Self::new(Origin::Env, values.collect())
    }

    /// Reads the configuration file.
    pub(crate) fn file(schema: &Schema, path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::yaml(schema, &text, &path.display().to_string())
    }

    pub(crate) fn yaml(schema: &Schema, text: &str, file: &str) -> Result<Self, Error> {
        let mut reader = Reader { schema, values: BTreeMap::new(), unknown: None };
        let read = crate::yaml::seed(text, file, Section { reader: &mut reader, prefix: String::new() });
        match reader.unknown.take() {
            Some(key) => {
                let nearest = suggest::nearest(&key, schema.flags().map(|f| f.key.as_str())).map(str::to_owned);
                Err(Error::UnknownKey { file: file.to_owned(), key, nearest })
            }
            None => read.map(|()| Self::new(Origin::File, reader.values)),
        }
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let origin = self.origin.to_string();
        let value = |text: &String| Value::new(Some(&origin), ValueKind::String(text.clone()));
        let list = |texts: &Vec<String>| Value::new(Some(&origin), ValueKind::Array(texts.iter().map(value).collect()));
        Ok(self.values.iter().map(|(key, texts)| (key.clone(), list(texts))).collect())
    }
}

/// Lays `layers` over each other, later ones winning; a list is replaced as a whole, never appended to.
pub(crate) fn merge(schema: &Schema, layers: Vec<Layer>) -> Result<BTreeMap<String, Merged>, Error> {
    let bug = |e: config::ConfigError| Error::Usage(format!("configuration layers: {e}"));
    let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(layer));
    let config = builder.build().map_err(bug)?;
    let mut merged = BTreeMap::new();
    for FlagSpec { flag, key, .. } in schema.flags() {
        let Ok(values) = config.get_array(key) else { continue };
        let origin = match values.first().and_then(Value::origin) {
            Some("file") => Origin::File,
            Some("env") => Origin::Env,
            Some("flag") => Origin::Flag,
            _ => Origin::Default,
        };
        let values = values.into_iter().map(Value::into_string).collect::<Result<_, _>>().map_err(bug)?;
        merged.insert(flag.clone(), Merged { values, origin });
    }
    Ok(merged)
}

/// Collects the values of a file, guided by what is declared, so that scalars are read as the text they are (`on`, `1.0`
/// and `0755` unharmed).
struct Reader<'s> {
    schema: &'s Schema,
    values: BTreeMap<String, Vec<String>>,
    unknown: Option<String>,
}

struct Section<'r, 's> {
    reader: &'r mut Reader<'s>,
    prefix: String,
}

impl<'de> DeserializeSeed<'de> for Section<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Section<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => f.write_str("a mapping of keys"),
            prefix => write!(f, "a mapping of keys below {prefix}"),
        }
    }

    // An empty file is an empty mapping.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let key = if self.prefix.is_empty() { name } else { format!("{}.{name}", self.prefix) };
            let at_key = |e: A::Error| serde::de::Error::custom(format!("key {key}: {e}"));
            let values = match self.reader.schema.by_key(&key).map(|f| f.kind) {
                Some(FlagKind::List) => map.next_value::<Vec<String>>().map_err(at_key)?,
                Some(FlagKind::Value | FlagKind::Switch) => vec![map.next_value::<String>().map_err(at_key)?],
                None if self.reader.schema.is_section(&key) => {
                    let section = Section { reader: self.reader, prefix: key.clone() };
                    map.next_value_seed(section).map_err(at_key)?;
                    continue;
                }
                None => {
                    self.reader.unknown = Some(key);
                    return Err(serde::de::Error::custom("unknown key"));
                }
            };
            // The same key may be written as a path and as a dotted name.
            if self.reader.values.insert(key.clone(), values).is_some() {
                return Err(serde::de::Error::custom(format!("key {key} is given twice")));
            }
        }
        Ok(())
    }
}
