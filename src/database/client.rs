//! A blocking client over the asynchronous half of the crate `postgres`, as the crate's own, with what that one lacks:
//! a deadline for opening a connection, statements in a transaction of their own in one round trip, and a way to know
//! whether a pooler is in between. Touches the network.

use crate::database::socket::Socket;
use crate::database::transport::Transport;
use futures_core::Stream as _;
use std::future::{self, Future};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, CancelToken, Connection, Error, Row, RowStream, Statement};

/// How long the end of a connection may take.
const GOODBYE: Duration = Duration::from_millis(100);

/// A parameter of a statement with its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement: prepared, or as its text.
#[derive(Clone, Copy)]
pub enum Query<'a> {
    Prepared(&'a Statement),
    Text(&'a str),
}

/// Why the rows of a statement ended early.
pub enum RowsError<E> {
    Database(Error),
    /// The receiver of the rows failed; more of them are still to come.
    Receiver(E),
}

type PollMessage = dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send;

/// A connection to a server.
pub struct Client {
    /// Taken when it is dropped.
    inner: Option<tokio_postgres::Client>,
    poll_message: Box<PollMessage>,
    socket: Arc<Socket>,
}

impl Client {
    /// `socket` is the one under the connection.
    pub fn new(
        inner: tokio_postgres::Client,
        mut connection: Connection<Transport, Transport>,
        socket: Arc<Socket>,
    ) -> Self {
        let poll_message = Box::new(move |context: &mut Context<'_>| connection.poll_message(context));
        Self { inner: Some(inner), poll_message, socket }
    }

    /// See [`Socket::limit_silence`].
    pub fn limit_silence(&self, limit: Option<Duration>) {
        self.socket.limit_silence(limit);
    }

    /// Runs a future of the client while the connection sends and receives. None: it was not over within the limit.
    fn run<'a, T, F>(
        &'a mut self,
        limit: Option<Duration>,
        start: impl FnOnce(&'a tokio_postgres::Client) -> F,
    ) -> Option<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Self { inner: Some(inner), poll_message, socket } = self else {
            unreachable!("taken only when it is dropped")
        };
        let mut work = pin!(start(inner));
        socket.run(limit.and_then(|limit| Instant::now().checked_add(limit)), |context| {
            // What the work sends first goes out in the connection's first turn.
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let Err(end) = exchange(poll_message, context) else { return work.as_mut().poll(context) };
            // Whoever waits gets what arrived before the end: the server may have sent the reason.
            *poll_message = Box::new(|_| Poll::Ready(None));
            match work.as_mut().poll(context) {
                Poll::Ready(Err(error)) if error.as_db_error().is_some() => Poll::Ready(Err(error)),
                Poll::Ready(Ok(result)) => Poll::Ready(Ok(result)),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(Err(end)),
            }
        })
    }

    /// The same without a limit.
    fn run_to_end<'a, T, F>(&'a mut self, start: impl FnOnce(&'a tokio_postgres::Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.run(None, start).unwrap_or_else(|| unreachable!("there is no limit"))
    }

    /// Runs statements without parameters. One round trip.
    pub fn batch(&mut self, text: &str) -> Result<(), Error> {
        self.run_to_end(|client| client.batch_execute(text))
    }

    /// The columns of the only row of a statement without parameters, as text. One round trip. The error is none if
    /// there was no reply within the limit.
    pub fn text_row(&mut self, text: &str, limit: Duration) -> Result<Vec<Option<String>>, Option<Error>> {
        let messages = self.run(Some(limit), |client| client.simple_query(text)).ok_or(None)??;
        Ok(messages.iter().find_map(text_columns).unwrap_or_default())
    }

    pub fn prepare(&mut self, text: &str) -> Result<Statement, Error> {
        self.run_to_end(|client| client.prepare(text))
    }

    /// Asks the server for a sign of life. One round trip. None: there was none within the limit.
    pub fn verify(&mut self, limit: Duration) -> Option<Result<(), Error>> {
        self.run(Some(limit), |client| client.batch_execute(""))
    }

    /// Runs a statement and hands over its rows as they arrive. One round trip, also in a transaction of its own:
    /// `begin` starts it.
    pub fn rows<E>(
        &mut self,
        begin: Option<&str>,
        query: Query<'_>,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), RowsError<E>> {
        let mut failure = None;
        let done = self.run_to_end(|client| {
            let started = async move {
                match begin {
                    Some(begin) => client.batch_execute(begin).await,
                    None => Ok(()),
                }
            };
            let rows = async move {
                match query {
                    Query::Prepared(statement) => {
                        client.query_raw(statement, parameters.iter().map(|(value, _)| *value)).await
                    }
                    Query::Text(text) => client.query_typed_raw(text, parameters.iter().cloned()).await,
                }
            };
            let ended = async move {
                match begin {
                    Some(_) => client.batch_execute("commit").await,
                    None => Ok(()),
                }
            };
            all_in_order(started, take_all(rows, each, &mut failure), ended)
        });
        match (failure, done) {
            (Some(error), _) => Err(RowsError::Receiver(error)),
            (None, Err(error)) => Err(RowsError::Database(error)),
            (None, Ok(_)) => Ok(()),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.inner.as_ref().is_none_or(tokio_postgres::Client::is_closed)
    }

    pub fn cancel_token(&self) -> Option<CancelToken> {
        self.inner.as_ref().map(tokio_postgres::Client::cancel_token)
    }

    /// The process that the server named at login. A pooler names a number of its own.
    pub fn process_id(&self) -> Option<i32> {
        let mut request = Vec::new(); // what would be sent to cancel a statement
        let token = self.cancel_token()?;
        {
            let writing = pin!(token.cancel_query_raw(Memory(&mut request), InMemory));
            let Poll::Ready(Ok(())) = writing.poll(&mut Context::from_waker(Waker::noop())) else { return None };
        }
        Some(i32::from_be_bytes(request.get(8..12)?.try_into().ok()?))
    }
}

/// Says goodbye to the server.
impl Drop for Client {
    fn drop(&mut self) {
        drop(self.inner.take());
        let Self { poll_message, socket, .. } = self;
        let _ = socket.run(Some(Instant::now() + GOODBYE), |context| {
            loop {
                match poll_message(context) {
                    Poll::Ready(Some(Ok(_))) => (),
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
    }
}

fn text_columns(message: &tokio_postgres::SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    }
}

/// Sends and receives what can be without waiting. An end of the connection is left to whoever waits for a reply.
fn exchange(poll_message: &mut PollMessage, context: &mut Context<'_>) -> Result<(), Error> {
    loop {
        match poll_message(context) {
            Poll::Ready(Some(Ok(_))) => (), // notices and notifications
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) | Poll::Pending => return Ok(()),
        }
    }
}

/// Hands each row to the receiver. False: it failed, and the rest is still to come.
async fn take_all<E>(
    rows: impl Future<Output = Result<RowStream, Error>>,
    each: &mut dyn FnMut(Row) -> Result<(), E>,
    failure: &mut Option<E>,
) -> Result<bool, Error> {
    let mut rows = pin!(rows.await?);
    while let Some(row) = future::poll_fn(|context| rows.as_mut().poll_next(context)).await {
        if let Err(error) = each(row?) {
            *failure = Some(error);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Starts three requests in this order before it waits for the first reply. Ends when all have, or when the second one
/// is false.
async fn all_in_order(
    first: impl Future<Output = Result<(), Error>>,
    second: impl Future<Output = Result<bool, Error>>,
    third: impl Future<Output = Result<(), Error>>,
) -> Result<bool, Error> {
    let (mut first, mut second, mut third) = (pin!(first), pin!(second), pin!(third));
    let (mut one, mut two, mut three) = (None, None, None);
    future::poll_fn(|context| {
        one = one.take().or_else(|| ready(first.as_mut().poll(context)));
        two = two.take().or_else(|| ready(second.as_mut().poll(context)));
        if matches!(two, Some(Ok(false))) {
            return Poll::Ready(());
        }
        three = three.take().or_else(|| ready(third.as_mut().poll(context)));
        if one.is_some() && two.is_some() && three.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let is_complete = two.unwrap_or(Ok(true));
    if matches!(is_complete, Ok(false)) {
        return Ok(false);
    }
    one.unwrap_or(Ok(()))?;
    let is_complete = is_complete?;
    three.unwrap_or(Ok(()))?;
    Ok(is_complete)
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A stream into memory.
struct Memory<'a>(&'a mut Vec<u8>);

impl AsyncRead for Memory<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Memory<'_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

struct InMemory;

impl<'a> TlsConnect<Memory<'a>> for InMemory {
    type Stream = Memory<'a>;
    type Error = std::convert::Infallible;
    type Future = future::Ready<Result<Memory<'a>, Self::Error>>;

    fn connect(self, stream: Memory<'a>) -> Self::Future {
        future::ready(Ok(stream))
    }
}
