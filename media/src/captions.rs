//! Captions: a text beside the picture, in one language.

use std::fmt;
use std::str::FromStr;

use oxilangtag::LanguageTag;
use serde::{Deserialize, Serialize};

use crate::ids::BlobHash;

/// RFC 5646 §4.4.1 asks for room for at least so many characters; nothing here needs more.
const MAX_LANGUAGE_CHARS: usize = 35;

/// One language's captions of an asset, stored whole as a WebVTT segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captions {
    /// In which language; an asset has one of each.
    pub language: Language,
    /// What viewers choose it by.
    pub name: String,
    /// Shown unless the viewer chooses otherwise; of an asset's captions one at most.
    #[serde(default)]
    pub default: bool,
    /// What it tells.
    #[serde(default)]
    pub kind: CaptionsKind,
    /// Length in bytes.
    pub bytes: u64,
    /// Content hash.
    pub hash: BlobHash,
}

/// What captions tell (HTML §4.8.11.11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionsKind {
    /// What is spoken, for who does not understand it.
    #[default]
    Subtitles,
    /// What is spoken and what else is to be heard, for who does not hear it.
    Captions,
}

/// A well-formed language tag (BCP 47) in its usual spelling: `pt-BR`, `zh-Hant`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

/// A text that is no language tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a language tag of at most {MAX_LANGUAGE_CHARS} characters (BCP 47)")]
pub struct InvalidLanguage {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl Language {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Language {
    type Err = InvalidLanguage;

    fn from_str(text: &str) -> Result<Self, InvalidLanguage> {
        match LanguageTag::parse_and_normalize(text) {
            Ok(tag) if text.len() <= MAX_LANGUAGE_CHARS => Ok(Self(tag.into_inner())),
            Ok(_) | Err(_) => Err(InvalidLanguage { text: text.chars().take(64).collect() }),
        }
    }
}

impl TryFrom<String> for Language {
    type Error = InvalidLanguage;

    fn try_from(text: String) -> Result<Self, InvalidLanguage> {
        text.parse()
    }
}

impl From<Language> for String {
    fn from(language: Language) -> String {
        language.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_have_one_spelling() {
        for (given, usual) in [
            ("en", "en"),
            ("PT-br", "pt-BR"),
            ("zh-hant-tw", "zh-Hant-TW"),
            ("sl-rozaj-biske-1994", "sl-rozaj-biske-1994"),
            ("en-x-sdh", "en-x-sdh"),
        ] {
            let language: Language = given.parse().unwrap();
            assert_eq!(language.as_str(), usual);
            let text = serde_json::to_string(&language).unwrap();
            assert_eq!(serde_json::from_str::<Language>(&text).unwrap(), language);
        }
        for wrong in ["", "e", "12", "en_US", "en-", "en\"", "en-x-aaaaaaaa-bbbbbbbb-cccccccc-dddd"] {
            assert!(wrong.parse::<Language>().is_err(), "{wrong}");
        }
    }
}
