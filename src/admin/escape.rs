//! Text of others on a terminal: control characters in it must do nothing there. Pure.

/// A control character as Rust writes it, and any other as it is.
pub fn escape(character: char) -> String {
    if character.is_control() { character.escape_default().collect() } else { character.into() }
}
