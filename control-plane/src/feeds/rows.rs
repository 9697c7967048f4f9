//! The elements of a JSON array one by one, so that a hostile one costs no more memory than its text.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Why an array was not read to its end.
#[derive(Debug)]
pub(super) enum Broken<E> {
    /// It is no array, or an element is no such row.
    Json(serde_json::Error),
    /// The caller had enough.
    Stopped(E),
}

/// Calls `take` for each element; `null` is an array without any.
pub(super) fn each<'a, T: Deserialize<'a>, E>(
    array: &'a RawValue,
    take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), Broken<E>> {
    let mut stopped = None;
    let visitor = Rows { take, stopped: &mut stopped, row: PhantomData };
    let read = serde_json::Deserializer::from_str(array.get()).deserialize_any(visitor);
    match (stopped, read) {
        (Some(reason), _) => Err(Broken::Stopped(reason)),
        (None, read) => read.map_err(Broken::Json),
    }
}

struct Rows<'s, F, T, E> {
    take: F,
    stopped: &'s mut Option<E>,
    row: PhantomData<T>,
}

impl<'a, F, T, E> Visitor<'a> for Rows<'_, F, T, E>
where
    F: FnMut(T) -> Result<(), E>,
    T: Deserialize<'a>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<D>(self) -> Result<(), D> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(row) = array.next_element()? {
            if let Err(reason) = (self.take)(row) {
                *self.stopped = Some(reason);
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, most: usize) -> Result<Vec<u32>, String> {
        let mut rows = Vec::new();
        let array: &RawValue = serde_json::from_str(text).unwrap();
        let read = each(array, |row: u32| {
            rows.push(row);
            if rows.len() > most { Err("too many") } else { Ok(()) }
        });
        match read {
            Ok(()) => Ok(rows),
            Err(Broken::Stopped(why)) => Err(why.to_owned()),
            Err(Broken::Json(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn rows_come_one_by_one_until_enough() {
        assert_eq!(read("[1, 2, 3]", 3), Ok(vec![1, 2, 3]));
        assert_eq!(read("[1, 2, 3]", 2), Err("too many".to_owned()));
        assert_eq!(read("null", 3), Ok(vec![]));
        assert_eq!(read("[]", 0), Ok(vec![]));
        assert!(read("{}", 3).unwrap_err().contains("an array"));
        assert!(read("[1, \"x\"]", 3).unwrap_err().contains("invalid type"));
    }
}
