use proptest::prelude::*;

use super::*;

fn all_characters() -> impl Iterator<Item = char> {
    (0..=u32::from(char::MAX)).filter_map(char::from_u32)
}

#[test]
fn the_table_is_in_order() {
    for pair in FORMAT.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{pair:x?}");
    }
    assert!(FORMAT.iter().all(|(first, last)| first <= last));
}

#[test]
fn characters_that_harm_are_hidden() {
    let harmful = [
        '\0',
        '\t',
        '\n',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2067}',
        '\u{2068}',
        '\u{2069}',
        '\u{206f}',
        '\u{feff}',
        '\u{fff9}',
        '\u{fe0f}',
        '\u{fdd0}',
        '\u{ffff}',
        '\u{10ffff}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0fff}',
        '\u{3164}',
        '\u{115f}',
    ];
    for c in harmful {
        assert!(is_hidden(c), "{c:?}");
    }
}

#[test]
fn characters_of_ordinary_names_are_not_hidden() {
    for c in "Gas Sensor Block1 (CO) °C µg/m³ %LEL Büro Ð 氧气 गैस أكسجين 😀 \u{fffd}\u{a0}".chars()
    {
        assert!(!is_hidden(c), "{c:?}");
    }
}

#[test]
fn nothing_hidden_is_left_of_any_character() {
    for c in all_characters() {
        let text = format!("a{c}b");
        let (clean, escaped) = (clean(&text), escape(&text));
        assert!(!clean.chars().any(is_hidden), "{c:?}");
        assert!(!escaped.chars().any(is_hidden), "{c:?}");
        assert!(clean.starts_with('a') && clean.ends_with('b'), "{c:?}");
        if is_hidden(c) {
            let json = format!("\"{escaped}\"");
            assert_eq!(
                serde_json::from_str::<String>(&json).ok(),
                Some(text),
                "{c:?}"
            );
        } else {
            assert_eq!((&*clean, &*escaped), (&*text, &*text));
        }
    }
}

#[test]
fn a_line_break_separates_words_and_a_direction_character_does_not() {
    assert_eq!(clean("Block\n1\u{202e}2\u{2028}x"), "Block 12 x");
    assert_eq!(
        escape("a\u{202e}\n\u{e0041}"),
        "a\\u202e\\u000a\\udb40\\udc41"
    );
    assert_eq!(escape_other_than("a\u{1b}\n", &['\n']), "a\\u001b\n");
}

proptest! {
    /// The categories of the Unicode tables of another crate.
    #[test]
    fn every_control_and_format_character_is_hidden(text in "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]{1,64}") {
        prop_assert!(text.chars().all(is_hidden), "{text:?}");
        let cleaned = clean(&text);
        prop_assert_eq!(cleaned.trim(), "");
    }

    #[test]
    fn letters_and_digits_are_kept(text in "[\\p{Lu}\\p{Ll}\\p{Nd}\\p{Sm}\\p{Sc}]{0,64}") {
        prop_assert_eq!(&*clean(&text), &*text);
        prop_assert_eq!(&*escape(&text), &*text);
    }

    #[test]
    fn a_cut_text_is_a_beginning_of_whole_characters(text in any::<String>(), max in 0..40_usize) {
        let short = cut(&text, max);
        prop_assert!(short.len() <= max && text.starts_with(short));
        prop_assert!(short.len() + 4 > max || short.len() == text.len());
    }
}
