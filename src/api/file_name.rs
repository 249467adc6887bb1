//! The name under which a browser saves a CSV file: `Content-Disposition` (RFC 6266, RFC 8187). Pure.

use crate::api::request::StatsRequest;
use crate::store::DateRange;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a company, organization or folder may add to the name. Three of them and the days stay below the 255 bytes that
/// file systems allow.
const PART_BYTES: usize = 60;

/// All but `attr-char` of RFC 8187, section 3.2.1.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The header's value. The names of the path are untrusted: a header, a folder or a shell must find nothing in them.
pub fn content_disposition(request: &StatsRequest, days: Option<DateRange>) -> String {
    let names = [Some(&request.company), Some(&request.organization), request.folder.as_ref()];
    let mut parts: Vec<String> = names.into_iter().flatten().map(|name| part(name)).collect();
    if let Some(days) = days {
        parts.push(days.first.format("%Y%m%d").to_string());
        if days.last != days.first {
            parts.push(days.last.format("%Y%m%d").to_string());
        }
    }
    let name = format!("{}.csv", parts.join("-"));
    let ascii: String = name.chars().map(|letter| if letter.is_ascii() { letter } else { '_' }).collect();
    // A name that starts with a dot is hidden, and one that starts with a hyphen is an argument to many programs.
    let ascii_safe = |name: &str| name.replacen(['.', '-'], "_", usize::from(name.starts_with(['.', '-'])));
    let plain = format!("attachment; filename=\"{}\"", ascii_safe(&ascii));
    if ascii == name {
        return plain;
    }
    format!("{plain}; filename*=UTF-8''{}", utf8_percent_encode(&ascii_safe(&name), ESCAPED))
}

/// Letters and digits of any script, `.`, `_` and `-`; an underscore in place of anything else.
fn part(name: &str) -> String {
    let mut part = String::new();
    for letter in name.chars() {
        let letter = if letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-') { letter } else { '_' };
        if part.len() + letter.len_utf8() > PART_BYTES {
            break;
        }
        part.push(letter);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::date_range;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    fn disposition(company: &str, organization: &str, folder: Option<&str>, range: &str) -> String {
        let request = StatsRequest {
            company: company.into(),
            organization: organization.into(),
            folder: folder.map(str::to_owned),
            ..StatsRequest::default()
        };
        let today = NaiveDate::from_ymd_opt(2026, 3, 5).unwrap();
        content_disposition(&request, date_range::resolve(Some(range), today, date_range::OpenRange::Day))
    }

    #[test]
    fn a_file_is_named_after_the_request() {
        for (folder, range, name) in [
            (None, "", "acme-support-20260305.csv"),
            (Some("Sales"), "20260301-20260331", "acme-support-Sales-20260301-20260331.csv"),
            (Some("../a/b\\c\"d\r\n;%"), "x", "acme-support-.._a_b_c_d____.csv"),
        ] {
            let expected = format!("attachment; filename=\"{name}\"");
            assert_eq!(disposition("acme", "support", folder, range), expected);
        }
        assert_eq!(disposition(".rc", "-x", None, "x"), "attachment; filename=\"_rc--x.csv\"");
    }

    #[test]
    fn other_letters_than_ascii_have_a_name_of_their_own() {
        assert_eq!(
            disposition("Übersee & Söhne", "東京", Some("a\u{202e}b"), "20260303"),
            "attachment; filename=\"_bersee___S_hne-__-a_b-20260303.csv\"; \
             filename*=UTF-8''%C3%9Cbersee___S%C3%B6hne-%E6%9D%B1%E4%BA%AC-a_b-20260303.csv"
        );
    }

    proptest! {
        #[test]
        fn every_name_yields_a_safe_header(company in "\\PC{1,90}|.{1,9}", folder in any::<Option<String>>()) {
            let header = disposition(&company, "support", folder.as_deref(), "20260301-20260331");
            let is_header = header.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\');
            prop_assert!(is_header, "{}", header);
            let name = header.split('"').nth(1).unwrap();
            prop_assert!(name.len() <= 255 && name.ends_with(".csv") && !name.starts_with(['.', '-']));
            prop_assert!(!name.contains(['/', '%', ';', '\'']));
            prop_assert_eq!(header.matches('"').count(), 2);
        }
    }
}
