//! The catalogue: which feeds there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    access,
    feed::FeedSpec,
    operator,
    yaml::{Spanned, YamlError, from_yaml},
};

/// Most lists of a ruleset: an entry of it has one bit for each, and one for the canary that tells
/// whether enforcement works.
pub const MAX_LISTS: usize = 63;
/// Most enabled feeds at a time: the others are the operator's own lists.
pub const MAX_ENABLED: usize = MAX_LISTS - operator::MAX_LISTS;

/// The feeds of a catalogue file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Catalogue {
    /// Names are unique, and at most [`MAX_ENABLED`] are enabled.
    pub feeds: Vec<FeedSpec>,
}

impl Catalogue {
    /// Reads and checks a catalogue; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        let CatalogueFile { feeds } = from_yaml(text, file)?;
        let mut lines = BTreeMap::new();
        let mut enabled = 0;
        for feed in &feeds {
            let refuse = |message| Err(YamlError::at(feed, file, message));
            let FeedSpec { name, source, refresh, .. } = &feed.value;
            if let Some(line) = lines.insert(name, feed.referenced.line()) {
                return refuse(format!("feed '{name}' is there twice, first in line {line}"));
            }
            if operator::is_reserved(name) {
                return refuse(format!(
                    "'{name}' is the name of a list of the operator's own entries"
                ));
            }
            if let Some(least) = source.shortest_refresh().filter(|least| refresh < least) {
                return refuse(format!(
                    "feed '{name}' has a refresh of {refresh}: expected at least {least} for a list \
                     that is fetched over HTTP"
                ));
            }
            if let Some(least) = feed.value.min_refresh.filter(|least| refresh < least) {
                return refuse(format!(
                    "feed '{name}' has a refresh of {refresh}: its publisher allows {least} at the \
                     least, says `min_refresh`"
                ));
            }
            if feed.value.max_bytes == Some(0) || feed.value.origin.as_deref() == Some("") {
                return refuse(format!(
                    "feed '{name}': expected a 'max_bytes' above 0 and an 'origin' that is a name; \
                     leave out what is not meant"
                ));
            }
            if let Err(why) = check_mapping(&feed.value).and_then(|()| access::check(&feed.value)) {
                return refuse(format!("feed '{name}': {why}"));
            }
            enabled += usize::from(feed.value.enabled);
            if enabled > MAX_ENABLED {
                return refuse(format!(
                    "feed '{name}' is one too many: at most {MAX_ENABLED} feeds can be enabled"
                ));
            }
        }
        Ok(Self { feeds: feeds.into_iter().map(|feed| feed.value).collect() })
    }

    /// The feeds that are in use.
    pub fn enabled(&self) -> impl Iterator<Item = &FeedSpec> {
        self.feeds.iter().filter(|feed| feed.enabled)
    }
}

/// A mapping is there exactly if the format needs one, and fits it.
fn check_mapping(FeedSpec { format, mapping, .. }: &FeedSpec) -> Result<(), String> {
    match mapping {
        None if format.needs_mapping() => Err(format!(
            "the format {format} needs a 'mapping' that says which column or key holds what"
        )),
        Some(_) if !format.needs_mapping() => {
            Err(format!("the format {format} has columns of its own and takes no 'mapping'"))
        }
        Some(mapping) => mapping.check(*format).map_err(str::to_owned),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    feeds: Vec<Spanned<FeedSpec>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::period::Period;

    fn error(text: &str) -> String {
        Catalogue::from_yaml(text, "feeds.yaml").unwrap_err().to_string()
    }

    fn feed(extra: &str) -> String {
        format!("feeds:\n  - name: a\n    source: a.txt\n    format: plain\n{extra}")
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let catalogue = Catalogue::from_yaml(&feed(""), "feeds.yaml").unwrap();
        let [feed] = &catalogue.feeds[..] else { panic!("{catalogue:?}") };
        assert!(feed.enabled && !feed.source.is_http());
        assert_eq!(feed.action.as_str(), "drop");
        assert_eq!(feed.refresh, Period::hours(1));
        assert_eq!((feed.min_prefix_v4, feed.expire_after), (None, None));
    }

    #[test]
    fn a_catalogue_reads_back_as_it_is_printed() {
        let text = feed(
            "    action: observe\n    enabled: false\n    min_prefix_v4: 24\n    min_prefix_v6: 48
    expire_after: 36h\n    ports: ignore\n    min_confidence: 75\n    confidence: 80\n    refresh: 30m\n    min_refresh: 15m
    max_bytes: 1000\n    may_be_empty: true\n    approval: required\n    older_after: 5d\n    max_content_age: 40d\n    limits: {grow_percent: 10, slack: 3}\n    licence: CC0-1.0\n    attribution: a\n    class: scanner\n    homepage: https://a.example\n    comment: 'x: y'\n",
        );
        let catalogue = Catalogue::from_yaml(&text, "feeds.yaml").unwrap();
        let printed = serde_yaml::to_string(&catalogue).unwrap();
        assert_eq!(Catalogue::from_yaml(&printed, "printed").unwrap(), catalogue);
    }

    #[test]
    fn errors_point_at_the_place_and_say_what_is_expected() {
        for (extra, place, words) in [
            ("    colour: red\n", "feeds.yaml:5:5:", &["colour", "expire_after"][..]),
            ("    min_prefix_v4: 7\n", "feeds.yaml:5:5:", &["8 to 32", "`7`"]),
            ("    min_prefix_v6: 129\n", "feeds.yaml:5:5:", &["16 to 128", "`129`"]),
            ("    min_prefix_v4: wide\n", "feeds.yaml:5:5:", &["wide", "8 to 32"]),
            ("    expire_after: never\n", "feeds.yaml:5:19:", &["'never'", "7d"]),
            ("    expire_after: 0s\n", "feeds.yaml:5:19:", &["'0s'", "7d"]),
            ("    action: refuse\n", "feeds.yaml:5:13:", &["refuse", "observe", "drop"]),
            ("    enabled: maybe\n", "feeds.yaml:5:14:", &["bool"]),
            ("    min_confidence: 101\n", "feeds.yaml:5:5:", &["0 to 100", "`101`"]),
        ] {
            let error = error(&feed(extra));
            assert!(error.starts_with(place), "{extra}: {error}");
            assert!(words.iter().all(|word| error.contains(word)), "{extra}: {error}");
        }
    }

    #[test]
    fn names_sources_and_formats_are_checked() {
        for (text, words) in [
            (
                "feeds:\n  - name: A b\n    source: x\n    format: plain\n",
                &["'A b'", "letters, digits"][..],
            ),
            ("feeds:\n  - name: a\n    source: ftp://x/\n    format: plain\n", &["ftp", "http://"]),
            ("feeds:\n  - name: a\n    source: http:///x\n    format: plain\n", &["no host"]),
            ("feeds:\n  - name: a\n    source: x\n    format: cvs\n", &["cvs", "feodo-csv"]),
            ("feeds:\n  - name: a\n    source: x\n", &["format"]),
            ("feed: []\n", &["feed", "feeds"]),
            ("feeds: 3\n", &["feeds.yaml:1:8:"]),
            ("", &["feeds.yaml:1:1:"]),
        ] {
            let error = error(text);
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_twice_a_hasty_refresh_and_one_feed_too_many_are_refused() {
        let row = |name: &str| format!("  - {{name: {name}, source: x, format: plain}}\n");
        let twice = error(&format!("feeds:\n{}{}", row("a"), row("a")));
        assert_eq!(twice, "feeds.yaml:3:5: feed 'a' is there twice, first in line 2");
        let hasty =
            "feeds:\n  - {name: a, source: 'http://a.example/', format: plain, refresh: 4m}";
        assert!(error(hasty).contains("at least 5m"), "{}", error(hasty));
        let often = "feeds:\n  - {name: a, source: x, format: plain, refresh: 1h, min_refresh: 2h}";
        assert!(error(often).contains("allows 2h at the least"), "{}", error(often));
        for nothing in ["max_bytes: 0", "origin: ''"] {
            let text = format!("feeds:\n  - {{name: a, source: x, format: plain, {nothing}}}\n");
            assert!(error(&text).contains("leave out what is not meant"), "{}", error(&text));
        }
        let own = error(&format!("feeds:\n{}", row("operator-observe")));
        assert!(own.starts_with("feeds.yaml:2:5: 'operator-observe' is the name"), "{own}");
        let rows: String = (0..60).map(|n| row(&format!("f{n}"))).collect();
        let many = error(&format!("feeds:\n{rows}"));
        assert!(many.starts_with("feeds.yaml:61:5: feed 'f59' is one too many"), "{many}");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (from, to) in ('a'..='y').zip('b'..='z') {
            text += &format!("{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from}]\n");
        }
        assert!(from_yaml::<serde_json::Value>(&text, "bomb.yaml").is_err());
    }
}
