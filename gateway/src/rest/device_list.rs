//! The list of all devices, or a page of it.
//!
//! The list of a large fleet has many megabytes. It is rendered piece by piece and sent from these pieces, so 100 slow readers
//! of one list hold it once. Its bytes count towards the limits of large answers. [`renderer`] renders the whole list.

pub(crate) mod renderer;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use shared::clock::Clock;
use shared::device::DeviceId;
use xxhash_rust::xxh3::Xxh3Default;

use super::answers::{AnswerLimits, HeldBytes};
use super::device_item::DeviceItem;
use crate::access::identity::Identity;
use crate::access::permission::Verb;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::store_reader::StoreReader;

/// The number of device states read in one round trip, and of rows in one piece. Larger reads could exceed the timeout or delay
/// other reads.
const CHUNK: usize = 500;

/// What a list is rendered from. Cheap to clone.
#[derive(Clone)]
pub(super) struct ListSource {
    pub(super) reader: StoreReader,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: AnswerLimits,
}

/// A rendered answer with devices.
#[derive(Debug)]
pub(super) struct DeviceList {
    pieces: Vec<Bytes>,
    /// For the header `ETag`. It depends on the content alone.
    pub(super) etag: String,
    /// Number of stored devices that the client may see, whether they are in the list or not.
    pub(super) known_devices: usize,
    /// Counts its bytes. An answer keeps this longer than the list: until its last byte is sent.
    pub(super) held: Arc<HeldBytes>,
}

/// Which of all devices a client wants or may see.
#[derive(Debug)]
pub(super) struct Part {
    /// `None`: it does not want a page, so the answer names no next one.
    pub(super) limit: Option<usize>,
    /// The last serial of the page before.
    pub(super) after: Option<String>,
    pub(super) client: ClientAddress,
    /// Who may not read every device.
    pub(super) reader: Option<Arc<Identity>>,
}

/// Reads and renders all devices, or a part of them.
pub(super) async fn render(
    source: &ListSource,
    part: Option<&Part>,
) -> Result<DeviceList, ApiError> {
    let reader = &source.reader;
    let devices = reader.with_timeout(reader.store.devices()).await;
    let mut devices: Vec<DeviceId> = devices
        .map_err(ApiError::unavailable)?
        .into_iter()
        .map(|(device, _)| device)
        .collect();
    if let Some(reader) = part.and_then(|part| part.reader.as_ref()) {
        let permission = reader.permission();
        devices.retain(|device| permission.allows(Verb::Read, device.as_str()));
    }
    devices.sort_unstable();
    let known_devices = devices.len();
    if let Some(after) = part.and_then(|part| part.after.as_deref()) {
        let first = devices.partition_point(|device| device.as_str() <= after);
        devices.drain(..first);
    }
    let limit = part.and_then(|part| part.limit);
    let mut rows = match part {
        Some(part) => Rows::new(
            limit.unwrap_or(usize::MAX),
            source.limits.begin(part.client),
        ),
        None => Rows::new(usize::MAX, source.limits.begin_shared()),
    };
    // One more than the page has, to learn whether there is another page.
    let chunk = rows.limit.saturating_add(1).min(CHUNK);
    for chunk in devices.chunks(chunk) {
        let states = reader.with_timeout(reader.store.states(chunk)).await;
        let states = states.map_err(ApiError::unavailable)?;
        let profiles = reader.with_timeout(reader.store.profiles(chunk)).await;
        let profiles = profiles.map_err(ApiError::unavailable)?;
        let now = source.clock.now();
        let mut piece = Vec::new();
        for ((device, stored), profile) in chunk.iter().zip(states).zip(&profiles) {
            let Some((state, last_message)) = stored else {
                continue;
            };
            if let Some(item) = DeviceItem::of(&state, profile, last_message, now)
                && !rows.add(device, &item, &mut piece)
            {
                break;
            }
        }
        rows.finish_piece(piece)?;
        if rows.has_more {
            break;
        }
    }
    Ok(rows.finish(limit.is_some(), known_devices))
}

/// The rows rendered so far.
struct Rows {
    limit: usize,
    count: usize,
    last: Option<DeviceId>,
    has_more: bool,
    /// The first one is replaced at the end by the beginning of the answer, which has the number of rows.
    pieces: Vec<Bytes>,
    hasher: Xxh3Default,
    held: HeldBytes,
}

impl Rows {
    fn new(limit: usize, held: HeldBytes) -> Self {
        Self {
            limit,
            count: 0,
            last: None,
            has_more: false,
            pieces: vec![Bytes::new()],
            hasher: Xxh3Default::new(),
            held,
        }
    }

    /// Appends a row to the piece. Returns whether there was room for it.
    fn add(&mut self, device: &DeviceId, item: &DeviceItem<'_>, piece: &mut Vec<u8>) -> bool {
        if self.count == self.limit {
            self.has_more = true;
            return false;
        }
        if self.count > 0 {
            piece.push(b',');
        }
        self.count += 1;
        self.last = Some(device.clone());
        serde_json::to_writer(piece, item)
            .expect("structs of strings and numbers always serialise");
        true
    }

    fn finish_piece(&mut self, piece: Vec<u8>) -> Result<(), ApiError> {
        self.held.add(piece.len() as u64)?;
        self.hasher.update(&piece);
        self.pieces.push(Bytes::from(piece));
        Ok(())
    }

    /// Completes the answer. A page names the serial after which the next page begins.
    fn finish(mut self, is_page: bool, known_devices: usize) -> DeviceList {
        let start = format!(r#"{{"success":true,"count":{},"devices":["#, self.count);
        let end = match (is_page, self.last.filter(|_| self.has_more)) {
            (false, _) => "]}".to_owned(),
            (true, next) => {
                let next = serde_json::to_string(&next).expect("a text always serialises");
                format!(r#"],"next":{next}}}"#)
            }
        };
        self.hasher.update(start.as_bytes());
        self.hasher.update(end.as_bytes());
        self.pieces[0] = Bytes::from(start);
        self.pieces.push(Bytes::from(end));
        DeviceList {
            etag: format!("\"{:016x}\"", self.hasher.digest()),
            pieces: self.pieces,
            known_devices,
            held: Arc::new(self.held),
        }
    }
}

impl DeviceList {
    /// Returns its length.
    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Sends a list piece by piece, without a copy.
#[derive(Debug)]
pub(super) struct DeviceListBody {
    list: Arc<DeviceList>,
    next: usize,
}

impl DeviceListBody {
    pub(super) fn new(list: Arc<DeviceList>) -> Self {
        Self { list, next: 0 }
    }
}

impl HttpBody for DeviceListBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.list.pieces.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.list.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.list.pieces.iter().skip(self.next);
        SizeHint::with_exact(left.map(|piece| piece.len() as u64).sum())
    }
}
