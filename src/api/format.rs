//! The query parameter `format` (docs/api.md, "CSV"). Pure.

use crate::api::error::BadRequest;

/// How the entries of a response are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Csv,
}

impl Format {
    /// The format that the parameter names; JSON if it is absent or empty.
    pub fn parse(parameter: Option<&str>) -> Result<Self, BadRequest> {
        match parameter.unwrap_or_default() {
            "" | "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(BadRequest::InvalidValue("format", "json or csv")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_values_are_formats() {
        for (parameter, format) in
            [(None, Format::Json), (Some(""), Format::Json), (Some("json"), Format::Json), (Some("csv"), Format::Csv)]
        {
            assert_eq!(Format::parse(parameter), Ok(format));
        }
        for parameter in ["CSV", "csv ", " csv", "xlsx", "json,csv", "null", "\u{ff43}sv"] {
            assert_eq!(Format::parse(Some(parameter)), Err(BadRequest::InvalidValue("format", "json or csv")));
        }
    }
}
