//! What an asset's owner says of it: what it is called, what belongs to it elsewhere, and captions.

use std::collections::BTreeMap;

use reelmill_media::captions::{Captions, Language};
use reelmill_media::ids::BlobHash;
use serde::{Deserialize, Deserializer, Serialize};

use super::asset::Asset;
use super::stage::Stage;
use super::words::Effect;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 256;
/// Longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 5000;
/// Most keys in the metadata.
pub const MAX_KEYS: usize = 50;
/// Longest key, in characters.
pub const MAX_KEY_CHARS: usize = 40;
/// Longest value, in characters.
pub const MAX_VALUE_CHARS: usize = 500;
/// Languages that an asset may have captions in.
pub const MAX_CAPTIONS: usize = 64;

/// What is kept for its owner, and means nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A change by JSON merge patch (RFC 7396): what is absent stays, what is null goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutPatch {
    /// See [`Asset::name`].
    #[serde(default, deserialize_with = "said")]
    pub name: Option<Option<String>>,
    /// See [`About::description`].
    #[serde(default, deserialize_with = "said")]
    pub description: Option<Option<String>>,
    /// See [`About::metadata`]; null takes all of it away.
    #[serde(default, deserialize_with = "said")]
    pub metadata: Option<Option<BTreeMap<String, Option<String>>>>,
}

/// Keeps null apart from absence.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Why an owner's word is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It stands in lists and in playlists.
    #[error("a name has 1 to {MAX_NAME_CHARS} characters, none of them a control character")]
    Name,
    /// Too long.
    #[error("a description has at most {MAX_DESCRIPTION_CHARS} characters")]
    Description,
    /// Too much.
    #[error(
        "metadata has at most {MAX_KEYS} keys of 1 to {MAX_KEY_CHARS} characters, with values of at most {MAX_VALUE_CHARS}"
    )]
    Metadata,
    /// Too many.
    #[error("an asset has captions in at most {MAX_CAPTIONS} languages")]
    Captions,
    /// RFC 8216bis §4.4.6.1.1 wants them distinct.
    #[error("the captions in {0} have this name already")]
    CaptionsName(Language),
}

impl Asset {
    /// The same after a change, or why it is not made.
    pub fn described(mut self, patch: &AboutPatch) -> Result<Asset, NotTaken> {
        let too_long = |text: &str, most: usize| text.chars().count() > most;
        if let Some(name) = &patch.name {
            let fits = |name: &String| {
                !name.trim().is_empty()
                    && !too_long(name, MAX_NAME_CHARS)
                    && !name.chars().any(char::is_control)
            };
            if !name.as_ref().is_none_or(fits) {
                return Err(NotTaken::Name);
            }
            self.name.clone_from(name);
        }
        if let Some(description) = &patch.description {
            if description.as_ref().is_some_and(|text| too_long(text, MAX_DESCRIPTION_CHARS)) {
                return Err(NotTaken::Description);
            }
            self.about.description.clone_from(description);
        }
        match &patch.metadata {
            None => {}
            Some(None) => self.about.metadata.clear(),
            Some(Some(changes)) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => self.about.metadata.insert(key.clone(), value.clone()),
                        None => self.about.metadata.remove(key),
                    };
                }
            }
        }
        let metadata = &self.about.metadata;
        let fits = |(key, value): (&String, &String)| {
            !key.is_empty() && !too_long(key, MAX_KEY_CHARS) && !too_long(value, MAX_VALUE_CHARS)
        };
        if metadata.len() <= MAX_KEYS && metadata.iter().all(fits) {
            Ok(self)
        } else {
            Err(NotTaken::Metadata)
        }
    }

    /// The same with these captions, instead of those in the same language.
    pub fn captioned(mut self, captions: Captions) -> Result<Asset, NotTaken> {
        self.captions.retain(|other| other.language != captions.language);
        if self.captions.len() >= MAX_CAPTIONS {
            return Err(NotTaken::Captions);
        }
        if let Some(other) = self.captions.iter().find(|other| other.name == captions.name) {
            return Err(NotTaken::CaptionsName(other.language.clone()));
        }
        for other in &mut self.captions {
            other.default &= !captions.default;
        }
        self.captions.push(captions);
        self.captions.sort_by(|a, b| a.language.cmp(&b.language));
        Ok(self)
    }

    /// Takes a change, unless it is too much: its owner is told so before, except where another change was faster.
    pub(super) fn describe(&mut self, patch: &AboutPatch) {
        if let Ok(described) = self.clone().described(patch) {
            *self = described;
        }
    }

    /// Takes captions, as [`Self::describe`] takes a change. The same again is published again.
    pub(super) fn take_captions(&mut self, captions: Captions) -> Vec<Effect> {
        let before = self.captions_in(&captions.language).map(|captions| captions.hash);
        match self.clone().captioned(captions) {
            Ok(captioned) => *self = captioned,
            Err(_) => return Vec::new(),
        }
        self.captions_changed(before)
    }

    /// Has no captions in a language any more.
    pub(super) fn drop_captions(&mut self, language: &Language) -> Vec<Effect> {
        let before = self.captions_in(language).map(|captions| captions.hash);
        self.captions.retain(|captions| captions.language != *language);
        self.captions_changed(before)
    }

    fn captions_changed(&mut self, before: Option<BlobHash>) -> Vec<Effect> {
        match &mut self.stage {
            Stage::Processing { .. } => {}
            Stage::Queued { .. } | Stage::Indexing { .. } if self.standing.is_some() => {}
            // Until it is closed again, the sweeper makes sure that they are published.
            Stage::Ready { closed, .. } => *closed = false,
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Failed { .. }
            | Stage::Deleted { .. } => return Vec::new(),
        }
        let is_gone = |words: &BlobHash| self.captions.iter().all(|captions| captions.hash != *words);
        let withdrawn = before.filter(is_gone).map(|words| Effect::WithdrawCaptions { words });
        [Effect::RenderCaptions].into_iter().chain(withdrawn).collect()
    }

    /// The captions in a language.
    pub fn captions_in(&self, language: &Language) -> Option<&Captions> {
        self.captions.iter().find(|captions| captions.language == *language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Arrival;
    use jiff::Timestamp;
    use reelmill_media::captions::CaptionsKind;
    use reelmill_media::ids::AssetId;

    fn asset() -> Asset {
        let (id, now) = (AssetId::from_parts(1, 2), Timestamp::UNIX_EPOCH);
        Asset::new(id, "demo".parse().unwrap(), Some("clip".into()), None, Arrival::Whole, now)
    }

    fn patched(asset: &Asset, patch: serde_json::Value) -> Result<Asset, NotTaken> {
        asset.clone().described(&serde_json::from_value(patch).unwrap())
    }

    #[test]
    fn a_patch_changes_what_it_says_and_takes_what_is_null() {
        let patch = serde_json::json!({ "description": "long ago", "metadata": { "a": "1", "b": "2" } });
        let first = patched(&asset(), patch).unwrap();
        assert_eq!(
            (first.name.as_deref(), first.about.description.as_deref()),
            (Some("clip"), Some("long ago"))
        );
        let second =
            patched(&first, serde_json::json!({ "name": null, "metadata": { "a": null, "c": "3" } }))
                .unwrap();
        assert_eq!(second.name, None);
        assert_eq!(second.about.description.as_deref(), Some("long ago"));
        let left = [("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())];
        assert_eq!(second.about.metadata, BTreeMap::from(left));
        assert_eq!(
            patched(&second, serde_json::json!({ "metadata": null })).unwrap().about.metadata.len(),
            0
        );
        assert_eq!(patched(&second, serde_json::json!({})).unwrap(), second);
    }

    #[test]
    fn what_is_too_much_is_refused_whole() {
        let long = |length: usize| "é".repeat(length);
        let many: BTreeMap<String, String> = (0..=MAX_KEYS).map(|n| (n.to_string(), long(1))).collect();
        for (patch, error) in [
            (serde_json::json!({ "name": "" }), NotTaken::Name),
            (serde_json::json!({ "name": "a\nb" }), NotTaken::Name),
            (serde_json::json!({ "name": long(MAX_NAME_CHARS + 1) }), NotTaken::Name),
            (serde_json::json!({ "description": long(MAX_DESCRIPTION_CHARS + 1) }), NotTaken::Description),
            (serde_json::json!({ "metadata": many }), NotTaken::Metadata),
            (serde_json::json!({ "metadata": { "": "x" } }), NotTaken::Metadata),
            (serde_json::json!({ "metadata": { "k": long(MAX_VALUE_CHARS + 1) } }), NotTaken::Metadata),
        ] {
            assert_eq!(patched(&asset(), patch), Err(error));
        }
        let full =
            serde_json::json!({ "name": long(MAX_NAME_CHARS), "description": long(MAX_DESCRIPTION_CHARS) });
        assert!(patched(&asset(), full).is_ok());
    }

    fn captions(language: &str, name: &str, default: bool) -> Captions {
        let (language, hash) = (language.parse().unwrap(), BlobHash::of(name.as_bytes()));
        Captions { language, name: name.into(), default, kind: CaptionsKind::Subtitles, bytes: 1, hash }
    }

    #[test]
    fn a_language_has_one_text_and_one_of_all_is_shown() {
        let english = asset().captioned(captions("en", "English", true)).unwrap();
        let both = english.captioned(captions("de", "Deutsch", true)).unwrap();
        let order: Vec<_> = both.captions.iter().map(|c| (c.language.as_str(), c.default)).collect();
        assert_eq!(order, [("de", true), ("en", false)]);
        let taken = both.clone().captioned(captions("de-AT", "Deutsch", false));
        assert_eq!(taken, Err(NotTaken::CaptionsName("de".parse().unwrap())));
        let again = both.captioned(captions("de", "Deutsch", false)).unwrap();
        assert_eq!(again.captions.len(), 2);
        assert!(again.captions.iter().all(|captions| !captions.default));
        let language = |n: usize| captions(&format!("en-x-{n}"), &n.to_string(), false);
        let full = (0..MAX_CAPTIONS).fold(asset(), |asset, n| asset.captioned(language(n)).unwrap());
        assert!(full.clone().captioned(language(0)).is_ok());
        assert_eq!(full.captioned(language(MAX_CAPTIONS)), Err(NotTaken::Captions));
    }
}
