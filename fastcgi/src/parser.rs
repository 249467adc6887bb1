//! Bytes of one connection to requests. Pure: no input or output, and fed in any portions whatever.
//!
//! It keeps the rules of the protocol: which records count, which are answered at once, which end the connection. Its
//! user feeds it what arrives and does what the events ask for.

use crate::protocol::{
    self, BODY_BYTES, HEADER_BYTES, Header, KEEP_CONNECTION, NULL_REQUEST_ID, Pairs, ProtocolError, ProtocolStatus,
    Role, kind,
};

/// What a parser must know of the application that it works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of parameters of a request.
    pub max_params_bytes: usize,
    /// `FCGI_MAX_CONNS` and `FCGI_MAX_REQS` (section 4.1).
    pub max_connections: usize,
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request with all its parameters; its input follows.
    Request(Head),
    /// Some of `FCGI_STDIN`.
    Stdin(&'a [u8]),
    /// The end of `FCGI_STDIN`.
    StdinEnd,
    /// Some of `FCGI_DATA`.
    Data(&'a [u8]),
    /// The end of `FCGI_DATA`.
    DataEnd,
    /// The web server wants no more of the request (section 5.4).
    Abort,
    /// Records that must be sent to the web server now.
    Reply {
        /// The records.
        bytes: Vec<u8>,
        /// The connection ends after them.
        is_last: bool,
    },
}

/// The begin of a request (sections 5.1 and 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The id that its records carry.
    pub request_id: u16,
    /// What the web server wants.
    pub role: Role,
    /// The web server wants to use the connection again.
    pub keep_connection: bool,
    /// The parameters.
    pub parameters: Parameters,
}

/// The parameters of a request as bytes, all of them, in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Valid pairs: the parser looked.
    bytes: Vec<u8>,
}

impl Parameters {
    /// The value of a parameter; the last one if the name occurs more than once.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.iter().filter(|(found, _)| *found == name.as_ref()).last().map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Pairs::new(&self.bytes).map_while(Result::ok)
    }
}

/// Reads the records of one connection.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    stage: Stage,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Content that must be complete before it means something.
    body: Vec<u8>,
    active: Option<Active>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Header,
    Content(Header, usize),
    Padding(usize),
}

/// The request that the application works on.
#[derive(Debug)]
struct Active {
    request_id: u16,
    role: Role,
    keep_connection: bool,
    /// None: they are complete.
    params: Option<Vec<u8>>,
    is_stdin_over: bool,
    is_data_over: bool,
}

impl Parser {
    /// For a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stage: Stage::Header,
            header: [0; HEADER_BYTES],
            header_filled: 0,
            body: Vec::new(),
            active: None,
        }
    }

    /// Takes bytes from the begin of `input` up to the next event; none: `input` is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ProtocolError> {
        loop {
            match self.stage {
                Stage::Header => {
                    let wanted = self.header.get_mut(self.header_filled..).unwrap_or_default();
                    let bytes = take(input, wanted.len());
                    if let Some(part) = wanted.get_mut(..bytes.len()) {
                        part.copy_from_slice(bytes);
                    }
                    self.header_filled += bytes.len();
                    if self.header_filled < HEADER_BYTES {
                        return Ok(None);
                    }
                    self.header_filled = 0;
                    let header = Header::decode(self.header)?;
                    self.check(header)?;
                    self.body.clear();
                    self.stage = Stage::Content(header, header.content_bytes.into());
                }
                Stage::Content(header, 0) => {
                    self.stage = Stage::Padding(header.padding_bytes.into());
                    let event = self.complete(header)?;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Stage::Content(header, left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = take(input, left);
                    self.stage = Stage::Content(header, left - bytes.len());
                    let event = self.content(header, bytes)?;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Stage::Padding(left) => {
                    let left = left - take(input, left).len();
                    self.stage = if left == 0 { Stage::Header } else { Stage::Padding(left) };
                    if left > 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The application has ended the request: what still arrives of it counts no more.
    pub fn end(&mut self) {
        self.active = None;
    }

    /// Whether something of a next request arrived, so that the rest can be expected soon.
    pub fn has_begun(&self) -> bool {
        self.active.is_some() || self.header_filled > 0 || !matches!(self.stage, Stage::Header)
    }

    /// Whether all of `FCGI_STDIN` of the request arrived.
    pub fn is_stdin_over(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.is_stdin_over)
    }

    /// A scan for `FCGI_ABORT_REQUEST` in the bytes that follow those that this parser was fed.
    pub fn abort_scan(&self) -> AbortScan {
        let skip = match self.stage {
            Stage::Header => 0,
            Stage::Content(header, left) => left + usize::from(header.padding_bytes),
            Stage::Padding(left) => left,
        };
        AbortScan {
            request_id: self.active.as_ref().map_or(NULL_REQUEST_ID, |active| active.request_id),
            header: self.header,
            filled: self.header_filled,
            skip,
        }
    }

    /// What can be refused by the header alone.
    fn check(&self, header: Header) -> Result<(), ProtocolError> {
        let belongs_to_request =
            matches!(header.kind, kind::BEGIN_REQUEST | kind::ABORT_REQUEST | kind::PARAMS | kind::STDIN | kind::DATA);
        let is_outgoing = matches!(
            header.kind,
            kind::END_REQUEST | kind::STDOUT | kind::STDERR | kind::GET_VALUES_RESULT | kind::UNKNOWN_TYPE
        );
        if is_outgoing {
            return Err(ProtocolError::Direction(header.kind));
        }
        if belongs_to_request && header.request_id == NULL_REQUEST_ID {
            return Err(ProtocolError::RequestId(header.kind));
        }
        if header.kind == kind::BEGIN_REQUEST {
            if usize::from(header.content_bytes) != BODY_BYTES {
                return Err(ProtocolError::Length(header.kind));
            }
            if self.is_active(header.request_id) {
                return Err(ProtocolError::BegunTwice);
            }
        }
        Ok(())
    }

    fn is_active(&self, request_id: u16) -> bool {
        self.active.as_ref().is_some_and(|active| active.request_id == request_id)
    }

    fn content<'a>(&mut self, header: Header, bytes: &'a [u8]) -> Result<Option<Event<'a>>, ProtocolError> {
        let active = self.active.as_mut().filter(|active| active.request_id == header.request_id);
        match (header.kind, active) {
            (kind::BEGIN_REQUEST | kind::GET_VALUES, _) => self.body.extend_from_slice(bytes),
            (kind::PARAMS, Some(Active { params: Some(params), .. })) => {
                if params.len() + bytes.len() > self.limits.max_params_bytes {
                    return Err(ProtocolError::ParamsTooLong(self.limits.max_params_bytes));
                }
                params.extend_from_slice(bytes);
            }
            (kind::STDIN | kind::DATA, Some(Active { params: Some(_), .. })) => {
                return Err(ProtocolError::InputTooEarly);
            }
            (kind::STDIN, Some(active)) if !active.is_stdin_over => return Ok(Some(Event::Stdin(bytes))),
            (kind::DATA, Some(active)) if !active.is_data_over => return Ok(Some(Event::Data(bytes))),
            _ => (), // inactive request ids are ignored (section 3.3)
        }
        Ok(None)
    }

    /// All of a record's content arrived.
    fn complete<'a>(&mut self, header: Header) -> Result<Option<Event<'a>>, ProtocolError> {
        let is_end = header.content_bytes == 0;
        match header.kind {
            kind::BEGIN_REQUEST => return Ok(self.begin(header.request_id)),
            kind::GET_VALUES => return Ok(Some(self.values())),
            kind::ABORT_REQUEST if self.is_active(header.request_id) => return Ok(Some(self.abort(header.request_id))),
            kind::PARAMS if is_end => return self.head(header.request_id),
            kind::ABORT_REQUEST | kind::PARAMS => (),
            kind::STDIN | kind::DATA => {
                let active = self.active.as_mut().filter(|active| is_end && active.request_id == header.request_id);
                let Some(active) = active else { return Ok(None) };
                if active.params.is_some() {
                    return Err(ProtocolError::InputTooEarly);
                }
                let (is_over, event) = match header.kind {
                    kind::STDIN => (&mut active.is_stdin_over, Event::StdinEnd),
                    _ => (&mut active.is_data_over, Event::DataEnd),
                };
                return Ok((!std::mem::replace(is_over, true)).then_some(event));
            }
            unknown => {
                let mut bytes = Vec::new();
                protocol::push_unknown_type(&mut bytes, unknown);
                return Ok(Some(Event::Reply { bytes, is_last: false }));
            }
        }
        Ok(None)
    }

    fn begin<'a>(&mut self, request_id: u16) -> Option<Event<'a>> {
        let &[role_high, role_low, flags, ..] = self.body.as_slice() else { return None };
        let keep_connection = flags & KEEP_CONNECTION != 0;
        let mut bytes = Vec::new();
        if self.active.is_some() {
            protocol::push_end_request(&mut bytes, request_id, 0, ProtocolStatus::CantMultiplex);
            return Some(Event::Reply { bytes, is_last: false });
        }
        let Some(role) = Role::from_number(u16::from_be_bytes([role_high, role_low])) else {
            protocol::push_end_request(&mut bytes, request_id, 0, ProtocolStatus::UnknownRole);
            return Some(Event::Reply { bytes, is_last: !keep_connection });
        };
        self.active = Some(Active {
            request_id,
            role,
            keep_connection,
            params: Some(Vec::new()),
            is_stdin_over: false,
            is_data_over: false,
        });
        None
    }

    /// One that is still arriving just ends; nobody has seen it.
    fn abort<'a>(&mut self, request_id: u16) -> Event<'a> {
        let Some(Active { keep_connection, .. }) = self.active.take_if(|active| active.params.is_some()) else {
            return Event::Abort;
        };
        let mut bytes = Vec::new();
        protocol::push_end_request(&mut bytes, request_id, 0, ProtocolStatus::RequestComplete);
        Event::Reply { bytes, is_last: !keep_connection }
    }

    fn head<'a>(&mut self, request_id: u16) -> Result<Option<Event<'a>>, ProtocolError> {
        let active = self.active.as_mut().filter(|active| active.request_id == request_id);
        let Some(Active { role, keep_connection, params, .. }) = active else { return Ok(None) };
        let Some(bytes) = params.take() else { return Ok(None) };
        if let Some(Err(error)) = Pairs::new(&bytes).find(Result::is_err) {
            return Err(error);
        }
        let parameters = Parameters { bytes };
        Ok(Some(Event::Request(Head { request_id, role: *role, keep_connection: *keep_connection, parameters })))
    }

    /// Answers `FCGI_GET_VALUES` with what is asked for and known, each once (section 4.1).
    fn values<'a>(&self) -> Event<'a> {
        let connections = self.limits.max_connections.to_string();
        let known =
            [("FCGI_MAX_CONNS", connections.as_str()), ("FCGI_MAX_REQS", &connections), ("FCGI_MPXS_CONNS", "0")];
        let mut content = Vec::new();
        for (name, value) in known {
            if Pairs::new(&self.body).flatten().any(|(asked, _)| asked == name.as_bytes()) {
                protocol::push_pair(&mut content, name.as_bytes(), value.as_bytes());
            }
        }
        let mut bytes = Vec::new();
        protocol::push_record(&mut bytes, kind::GET_VALUES_RESULT, NULL_REQUEST_ID, &content);
        Event::Reply { bytes, is_last: false }
    }
}

/// Up to `most` bytes from the begin of `input`.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// Looks for the end of a request in bytes that somebody else will read later.
#[derive(Debug, Clone)]
pub struct AbortScan {
    request_id: u16,
    header: [u8; HEADER_BYTES],
    filled: usize,
    skip: usize,
}

impl AbortScan {
    /// Whether the bytes that follow hold `FCGI_ABORT_REQUEST` for the request (section 5.4).
    pub fn finds_abort(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            self.skip -= take(&mut bytes, self.skip).len();
            if self.skip > 0 || bytes.is_empty() {
                return false;
            }
            let wanted = self.header.get_mut(self.filled..).unwrap_or_default();
            let part = take(&mut bytes, wanted.len());
            if let Some(place) = wanted.get_mut(..part.len()) {
                place.copy_from_slice(part);
            }
            self.filled += part.len();
            if self.filled < HEADER_BYTES {
                return false;
            }
            self.filled = 0;
            let Ok(header) = Header::decode(self.header) else { return false };
            if header.kind == kind::ABORT_REQUEST && header.request_id == self.request_id {
                return true;
            }
            self.skip = usize::from(header.content_bytes) + usize::from(header.padding_bytes);
        }
    }
}
