//! One request from the environment (RFC 3875). Touches nothing itself: variables come in through a function.

use crate::request::CgiParams;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The parameters of the request that this process was started for.
pub fn params(variable: impl Fn(&str) -> Option<OsString>) -> CgiParams {
    CgiParams::collect(|name| variable(name).map(OsString::into_vec))
}
