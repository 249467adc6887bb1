//! The one rule for names of companies, organizations, folders and tokens. Pure.

use crate::admin::error::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// What the database takes.
const MAX_BYTES: usize = 1000;

/// Refuses what would only cause trouble. `kind` is what the name is of: "company", "folder".
pub fn check(kind: &str, name: &str) -> Result<(), Error> {
    let refuse = |why: &str, hint: &str| Err(Error::new(format!("the name of the {kind} {why}"), hint));
    if name.is_empty() {
        return refuse("is empty", "give one");
    }
    if name.len() > MAX_BYTES {
        return refuse("is longer than 1000 bytes", "shorten it");
    }
    if let Some(character) = name.chars().find(|&character| is_control(character)) {
        return refuse(&format!("has a control character, U+{:04X}", u32::from(character)), "leave it out");
    }
    let ends = [name.chars().next(), name.chars().next_back()];
    if let Some(character) = ends.into_iter().flatten().find(|&character| is_blank(character)) {
        return refuse(
            &format!("starts or ends with white space or an invisible character, U+{:04X}", u32::from(character)),
            "leave it out",
        );
    }
    if name == "." || name == ".." {
        return refuse("is a path of its own to web servers", "choose another name");
    }
    Ok(())
}

/// The composed form (NFC) of a name that is in another: it looks the same, and is another name.
pub fn composed(name: &str) -> Option<String> {
    if is_nfc(name) { None } else { Some(name.nfc().collect()) }
}

/// Up to 50 characters of a value in quotes, with control characters escaped, for messages.
pub fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(50).collect();
    if value.chars().nth(50).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Control characters, line ends of Unicode, and what reverses the text after it.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// White space, and characters that leave no mark (Unicode's Default_Ignorable_Code_Point, without the variation
/// selectors, which end emoji).
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_are_taken() {
        for name in
            ["a", "O'Brien & Co", "50% \"off\" \\ $(date)", "a/b", "電話", "...", "-x", "❤\u{fe0f}", "نمی\u{200c}دانم"]
        {
            assert_eq!(check("folder", name), Ok(()), "{name}");
        }
    }

    #[test]
    fn harmful_names_are_refused_with_their_reason() {
        for (name, reason) in [
            ("", "is empty"),
            (".", "path"),
            ("..", "path"),
            ("a\nb", "control character, U+000A"),
            ("a\0", "control character, U+0000"),
            ("a\u{85}b", "control character"),
            ("a\u{202e}b", "control character, U+202E"),
            ("a\u{2028}b", "control character"),
            (" a", "white space"),
            ("a ", "white space"),
            ("a\u{a0}", "U+00A0"),
            ("\u{3000}a", "U+3000"),
            ("a\u{200b}", "U+200B"),
            ("\u{feff}a", "U+FEFF"),
            ("\u{2060}", "U+2060"),
        ] {
            let error = check("folder", name).unwrap_err();
            assert!(error.message.contains(reason), "{name:?} {error}");
        }
        assert!(check("folder", &"é".repeat(500)).is_ok() && check("folder", &"é".repeat(501)).is_err());
    }

    #[test]
    fn the_composed_form_is_suggested() {
        assert_eq!(composed("Mu\u{308}nchen").as_deref(), Some("München"));
        assert_eq!(composed("München"), None);
    }

    #[test]
    fn values_are_shown_short_and_harmless() {
        assert_eq!(shown("a\n\u{200b}\""), r#""a\n\u{200b}\"""#);
        assert_eq!(shown(&"x".repeat(51)).chars().count(), 53);
    }
}
