//! Rows somewhere inside a JSON document, handed over one by one: nothing of it is kept but the
//! few values of one row that a format asks for.
//!
//! Arrays are transparent: a key that leads to an array leads to each of its elements.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::ParseFailure;

/// Most values of one field of a row that are kept.
const MAX_VALUES: usize = 64;
/// Most paths that are followed at a time: one bit each.
const MAX_PATHS: usize = 32;

/// The keys that lead from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Box<str>),
    Any,
}

impl Path {
    /// `data.items`, `*`; `.` and the empty text are the value itself.
    pub(super) fn new(text: &str) -> Self {
        let steps = text.split('.').filter(|key| !key.is_empty());
        Self(steps.map(|key| if key == "*" { Step::Any } else { Step::Key(key.into()) }).collect())
    }

    fn ends_at(&self, depth: usize) -> bool {
        self.0.len() == depth
    }

    fn allows(&self, depth: usize, key: &str) -> bool {
        match self.0.get(depth) {
            Some(Step::Key(wanted)) => **wanted == *key,
            Some(Step::Any) => true,
            None => false,
        }
    }
}

/// Where the rows are, and what of a row is wanted.
pub(super) struct Layout {
    /// Any of these leads to rows.
    pub(super) rows: Vec<Path>,
    /// From a row to its fields; at most 32 are looked at.
    pub(super) fields: Vec<Path>,
}

/// The values of one row.
#[derive(Default)]
pub(super) struct Values<'a> {
    fields: Vec<Vec<Cow<'a, str>>>,
    /// Whether a key was there twice, so that nobody can say which value counts.
    pub(super) is_ambiguous: bool,
}

impl<'a> Values<'a> {
    pub(super) fn new(fields: usize) -> Self {
        Self { fields: vec![Vec::new(); fields], is_ambiguous: false }
    }

    /// The first value of the nth field.
    pub(super) fn get(&self, field: usize) -> Option<&str> {
        self.all(field).next()
    }

    /// All values of the nth field.
    pub(super) fn all(&self, field: usize) -> impl Iterator<Item = &str> {
        self.fields.get(field).into_iter().flatten().map(|value| &**value)
    }

    fn clear(&mut self) {
        self.fields.iter_mut().for_each(Vec::clear);
        self.is_ambiguous = false;
    }

    #[expect(clippy::ptr_arg, reason = "what is borrowed from the document stays so")]
    fn add(&mut self, active: u32, layout: &[Path], depth: usize, value: &Cow<'a, str>) {
        for (at, path) in indices(active).filter_map(|at| Some((at, layout.get(at)?))) {
            if path.ends_at(depth)
                && let Some(values) = self.fields.get_mut(at)
                && values.len() < MAX_VALUES
            {
                values.push(value.clone());
            }
        }
    }
}

/// Reads the one document that the text is, and calls `row` for each row.
pub(super) fn read<'a>(
    text: &'a str,
    layout: &Layout,
    row: &mut dyn FnMut(&Values<'a>) -> Result<(), ParseFailure>,
) -> Result<(), ParseFailure> {
    let mut walk = Walk {
        layout,
        values: Values::new(layout.fields.len()),
        row,
        has_rows: false,
        failure: None,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Node { walk: &mut walk, active: all(&layout.rows), depth: 0 }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    let Walk { has_rows, failure, .. } = walk;
    if let Some(failure) = failure {
        return Err(failure);
    }
    read.map_err(|error| failure_of(&error))?;
    if has_rows { Ok(()) } else { Err(missing_rows(layout)) }
}

/// Reads the values of a row that is a document of its own.
pub(super) fn read_row<'a>(
    text: &'a str,
    fields: &[Path],
    values: &mut Values<'a>,
) -> Result<(), serde_json::Error> {
    values.clear();
    let mut json = serde_json::Deserializer::from_str(text);
    Pick { fields, values, active: all(fields), depth: 0 }.deserialize(&mut json)?;
    json.end()
}

pub(super) fn failure_of(error: &serde_json::Error) -> ParseFailure {
    let detail = error.to_string();
    if error.is_eof() {
        ParseFailure::Truncated { detail }
    } else {
        ParseFailure::BadJson { detail }
    }
}

fn missing_rows(layout: &Layout) -> ParseFailure {
    let keys = layout.rows.first().map_or(&[][..], |path| &path.0);
    let keys: Vec<_> = keys
        .iter()
        .map(|step| match step {
            Step::Key(key) => &**key,
            Step::Any => "*",
        })
        .collect();
    ParseFailure::MissingColumn { column: keys.join(".").into() }
}

/// What goes on while a document is read.
struct Walk<'w, 'a> {
    layout: &'w Layout,
    values: Values<'a>,
    row: &'w mut dyn FnMut(&Values<'a>) -> Result<(), ParseFailure>,
    /// Whether the place of the rows was met, be there rows or not.
    has_rows: bool,
    failure: Option<ParseFailure>,
}

impl<'a> Walk<'_, 'a> {
    fn hand_over<E: de::Error>(&mut self) -> Result<(), E> {
        (self.row)(&self.values).map_err(|failure| {
            self.failure = Some(failure);
            E::custom("enough")
        })
    }
}

/// A value on the way to the rows. `active` are the row paths that led here.
struct Node<'n, 'w, 'a> {
    walk: &'n mut Walk<'w, 'a>,
    active: u32,
    depth: usize,
}

impl<'a> Node<'_, '_, 'a> {
    fn is_at_rows(&self) -> bool {
        indices(self.active)
            .filter_map(|at| self.walk.layout.rows.get(at))
            .any(|path| path.ends_at(self.depth))
    }

    /// A value without parts is a row if it is where rows are, and else nothing.
    fn take<E: de::Error>(self, text: Option<Cow<'a, str>>) -> Result<(), E> {
        if !self.is_at_rows() {
            return Ok(());
        }
        let walk = self.walk;
        walk.has_rows = true;
        walk.values.clear();
        if let Some(text) = text {
            let fields = &walk.layout.fields;
            walk.values.add(all(fields), fields, 0, &text);
        }
        walk.hand_over()
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The visits of values without parts, as text; `null` is no text.
macro_rules! visit_scalars {
    ($node:ident, $text:ident => $take:expr) => {
        fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Borrowed(text)));
            $take
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Owned(text.to_owned())));
            $take
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Owned(number.to_string())));
            $take
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Owned(number.to_string())));
            $take
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Owned(number.to_string())));
            $take
        }

        fn visit_bool<E: de::Error>(self, flag: bool) -> Result<(), E> {
            let ($node, $text) = (self, Some(Cow::Borrowed(if flag { "true" } else { "false" })));
            $take
        }

        fn visit_unit<E: de::Error>(self) -> Result<(), E> {
            let ($node, $text) = (self, None);
            $take
        }
    };
}

impl<'de> Visitor<'de> for Node<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { ref walk, active, depth } = self;
        let layout = walk.layout;
        if self.is_at_rows() {
            let walk = self.walk;
            walk.has_rows = true;
            walk.values.clear();
            let fields = &layout.fields;
            Pick { fields, values: &mut walk.values, active: all(fields), depth: 0 }
                .visit_map(map)?;
            return walk.hand_over();
        }
        let walk = self.walk;
        // Where any key will do, an object without keys is an empty list.
        walk.has_rows |= indices(active)
            .filter_map(|at| layout.rows.get(at))
            .any(|path| path.ends_at(depth + 1) && path.0.last() == Some(&Step::Any));
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match narrowed(&layout.rows, active, depth, &key.0) {
                0 => drop(map.next_value::<IgnoredAny>()?),
                active => map.next_value_seed(Node { walk, active, depth: depth + 1 })?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let is_at_rows = self.is_at_rows();
        let Self { walk, active, depth } = self;
        walk.has_rows |= is_at_rows;
        while seq.next_element_seed(Node { walk, active, depth })?.is_some() {}
        Ok(())
    }

    visit_scalars!(node, text => node.take(text));
}

/// A value inside a row. `active` are the field paths that led here.
struct Pick<'p, 'v, 'a> {
    fields: &'p [Path],
    values: &'v mut Values<'a>,
    active: u32,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Pick<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Pick<'_, '_, 'de> {
    fn take(self, text: Option<Cow<'de, str>>) {
        if let Some(text) = text {
            self.values.add(self.active, self.fields, self.depth, &text);
        }
    }
}

impl<'de> Visitor<'de> for Pick<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields, values, active, depth } = self;
        let mut seen = 0;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let inner = narrowed(fields, active, depth, &key.0);
            values.is_ambiguous |= inner & seen != 0;
            seen |= inner;
            if inner == 0 {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Pick { fields, values, active: inner, depth: depth + 1 })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { fields, values, active, depth } = self;
        while seq.next_element_seed(Pick { fields, values, active, depth })?.is_some() {}
        Ok(())
    }

    visit_scalars!(pick, text => {
        pick.take(text);
        Ok(())
    });
}

/// A key, borrowed where it can be.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn all(paths: &[Path]) -> u32 {
    let count = paths.len().min(MAX_PATHS);
    u32::MAX.checked_shr(32 - count as u32).unwrap_or(0)
}

fn indices(active: u32) -> impl Iterator<Item = usize> {
    (0..MAX_PATHS).filter(move |at| active >> at & 1 == 1)
}

/// Those of the paths that the key goes on with.
fn narrowed(paths: &[Path], active: u32, depth: usize, key: &str) -> u32 {
    indices(active)
        .filter(|&at| paths.get(at).is_some_and(|path| path.allows(depth, key)))
        .fold(0, |sum, at| sum | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, rows: &[&str], fields: &[&str]) -> Result<Vec<String>, &'static str> {
        let paths = |texts: &[&str]| texts.iter().map(|text| Path::new(text)).collect();
        let layout = Layout { rows: paths(rows), fields: paths(fields) };
        let mut found = Vec::new();
        read(text, &layout, &mut |values| {
            let mark = if values.is_ambiguous { "!" } else { "" };
            let fields = (0..fields.len()).map(|at| values.all(at).collect::<Vec<_>>().join("+"));
            found.push(format!("{mark}{}", fields.collect::<Vec<_>>().join(" ")));
            Ok(())
        })
        .map_err(|failure| failure.as_str())?;
        Ok(found)
    }

    #[test]
    fn rows_are_found_wherever_they_are() {
        let text = r#"{"ok":true,"data":{"n":2,"items":[{"a":"x","b":{"c":1}},{"a":"\u0079"}]}}"#;
        assert_eq!(rows(text, &["data.items"], &["a", "b.c"]).unwrap(), ["x 1", "y "]);
        let keyed = r#"{"7":[{"a":"x"}],"8":[{"a":"y"},{"a":"z"}]}"#;
        assert_eq!(rows(keyed, &["*"], &["a"]).unwrap(), ["x", "y", "z"]);
        let bare = r#"{"v4":["x","y"],"v6":["z",null,{}],"other":"w"}"#;
        assert_eq!(rows(bare, &["v4", "v6"], &["."]).unwrap(), ["x", "y", "z", "", ""]);
        assert_eq!(rows(r#"[{"a":["x","y"]}]"#, &["."], &["a"]).unwrap(), ["x+y"]);
    }

    #[test]
    fn no_rows_and_no_place_for_rows_are_not_the_same() {
        assert_eq!(rows(r#"{"data":[]}"#, &["data"], &["a"]).unwrap().len(), 0);
        assert_eq!(rows("{}", &["*"], &["a"]).unwrap().len(), 0);
        assert_eq!(rows(r#"{"error":"no key"}"#, &["data"], &["a"]), Err("missing_column"));
        assert_eq!(rows(r#"{"data":[{"a":1}"#, &["data"], &["a"]), Err("truncated"));
        assert_eq!(rows(r#"{"data":[]} x"#, &["data"], &["a"]), Err("bad_json"));
    }

    #[test]
    fn a_key_twice_is_told() {
        assert_eq!(rows(r#"[{"a":1,"a":2}]"#, &["."], &["a"]).unwrap(), ["!1+2"]);
        assert_eq!(rows(r#"[{"x":1,"x":2}]"#, &["."], &["a"]).unwrap(), [""]);
    }

    #[test]
    fn depth_and_width_have_limits() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(rows(&deep, &["."], &["a"]), Err("bad_json"));
        let wide = format!(r#"[{{"a":[{}1]}}]"#, "1,".repeat(500));
        assert_eq!(rows(&wide, &["."], &["a"]).unwrap()[0].len(), 2 * MAX_VALUES - 1);
    }
}
