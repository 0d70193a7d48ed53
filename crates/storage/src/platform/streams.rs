//! The streams: dense offsets, written in the business transaction.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::stream::{NewEvent, StreamEvent, StreamHead, StreamId};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_realtime::LogReader;
use uuid::Uuid;

use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::db::{CommitNote, Db, Tx};

/// Where the two streams that a user hears stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeads {
    /// The user's own.
    pub user: StreamHead,
    /// The broadcast.
    pub broadcast: StreamHead,
}

#[derive(QueryableByName)]
struct HeadRow {
    #[diesel(sql_type = BigInt)]
    stream_id: i64,
    #[diesel(sql_type = SqlUuid)]
    epoch: Uuid,
    #[diesel(sql_type = BigInt)]
    head: i64,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    off: i64,
    #[diesel(sql_type = SqlUuid)]
    epoch: Uuid,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    payload: String,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

impl Tx<'_> {
    /// Appends one event: see [`append_events`](Self::append_events).
    ///
    /// # Errors
    /// The store's own.
    pub fn append_event(
        &mut self,
        stream: StreamId,
        event: &NewEvent,
        at: DateTime<Utc>,
    ) -> Result<StreamEvent, StoreError> {
        let mut written = self.append_events(stream, std::slice::from_ref(event), at)?;
        Ok(written.pop().expect("as many events come back as were given"))
    }

    /// Appends events to a stream, in their order, and notes them for the subscribers of this process. Locks the
    /// stream's head: nothing but audit heads may be locked after it.
    ///
    /// # Errors
    /// The store's own.
    pub fn append_events(
        &mut self,
        stream: StreamId,
        events: &[NewEvent],
        at: DateTime<Utc>,
    ) -> Result<Vec<StreamEvent>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let count = i64::try_from(events.len())
            .map_err(|_| StoreError::new(StoreErrorKind::Other, "more events than a stream can hold"))?;
        let head = prepared(
            "UPDATE stream_head SET head = head + ? WHERE stream_id = ? RETURNING stream_id, epoch, head",
        )
        .bind::<BigInt, _>(count)
        .bind::<BigInt, _>(stream.key())
        .get_result::<HeadRow>(self.conn())
        .optional()
        .store()?
        .ok_or_else(|| {
            StoreError::inconsistent("stream_head", "stream_id", stream, "the stream's row is missing")
        })?;
        let first = head.head - count + 1;
        let (offsets, kinds, payloads): (Vec<i64>, Vec<&str>, Vec<&str>) = {
            let mut rows = (Vec::new(), Vec::new(), Vec::new());
            for (offset, event) in (first..).zip(events) {
                rows.0.push(offset);
                rows.1.push(event.kind.as_str());
                rows.2.push(&*event.data);
            }
            rows
        };
        prepared(
            "INSERT INTO stream_event (stream_id, off, epoch, kind, payload, at) \
             SELECT ?, e.off, ?, e.kind, e.payload, ? FROM unnest(?, ?, ?) AS e(off, kind, payload)",
        )
        .bind::<BigInt, _>(stream.key())
        .bind::<SqlUuid, _>(head.epoch)
        .bind::<Timestamptz, _>(at)
        .bind::<Array<BigInt>, _>(offsets)
        .bind::<Array<Text>, _>(kinds)
        .bind::<Array<Text>, _>(payloads)
        .execute(self.conn())
        .store()?;
        let written: Vec<StreamEvent> = (first..)
            .zip(events)
            .map(|(offset, event)| StreamEvent {
                stream,
                epoch: head.epoch,
                offset,
                kind: event.kind,
                data: Arc::clone(&event.data),
                at,
            })
            .collect();
        for event in &written {
            self.note(CommitNote::Stream(event.clone()));
        }
        Ok(written)
    }

    /// The heads of streams; those without a row are left out.
    ///
    /// # Errors
    /// The store's own.
    pub fn stream_heads(&mut self, streams: &[StreamId]) -> Result<Vec<(StreamId, StreamHead)>, StoreError> {
        let rows = prepared("SELECT stream_id, epoch, head FROM stream_head WHERE stream_id = ANY(?)")
            .bind::<Array<BigInt>, _>(streams.iter().map(|stream| stream.key()).collect::<Vec<_>>())
            .load::<HeadRow>(self.conn())
            .store()?;
        Ok(rows
            .into_iter()
            .map(|row| (StreamId::from_key(row.stream_id), StreamHead { epoch: row.epoch, head: row.head }))
            .collect())
    }

    /// Where the streams that a user hears stand; in a snapshot, at the moment of everything else that is read in it.
    ///
    /// # Errors
    /// The store's own; `Inconsistent` when one of them has no row.
    pub fn heads_of(&mut self, user: UserId) -> Result<StreamHeads, StoreError> {
        let heads = self.stream_heads(&[StreamId::User(user), StreamId::Broadcast])?;
        let head = |wanted: StreamId| {
            let found = heads.iter().find(|(stream, _)| *stream == wanted).map(|(_, head)| *head);
            found.ok_or_else(|| {
                StoreError::inconsistent("stream_head", "stream_id", wanted, "the stream's row is missing")
            })
        };
        Ok(StreamHeads { user: head(StreamId::User(user))?, broadcast: head(StreamId::Broadcast)? })
    }

    /// The events of a stream after an offset, at most `limit`.
    ///
    /// # Errors
    /// The store's own.
    pub fn stream_events(
        &mut self,
        stream: StreamId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StreamEvent>, StoreError> {
        let rows = prepared(
            "SELECT off, epoch, kind, payload, at FROM stream_event WHERE stream_id = ? AND off > ? ORDER BY off LIMIT ?",
        )
        .bind::<BigInt, _>(stream.key())
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<EventRow>(self.conn())
        .store()?;
        rows.into_iter()
            .map(|row| {
                let kind = row.kind.parse().map_err(|why| {
                    StoreError::inconsistent("stream_event", "kind", format!("{stream}/{}", row.off), why)
                })?;
                Ok(StreamEvent {
                    stream,
                    epoch: row.epoch,
                    offset: row.off,
                    kind,
                    data: row.payload.into(),
                    at: row.at,
                })
            })
            .collect()
    }

    /// Deletes events that are older than `keep` or more than `most` behind their stream's head, at most `batch` in all;
    /// a caller goes on until fewer were deleted. A stream loses its oldest events first, and none that stands behind
    /// one that stays: what is left is never torn. Age is the writer's time against the database's.
    ///
    /// # Errors
    /// The store's own.
    pub fn prune_events(&mut self, keep: TimeDelta, most: i64, batch: i64) -> Result<usize, StoreError> {
        // Of each stream only the oldest event is looked at, until one is due; then the events up to the first fresh
        // one are.
        prepared(
            "WITH limits AS MATERIALIZED (SELECT now() - ? * interval '1 second' AS fresh_from, ?::bigint AS most), \
             due AS (SELECT h.stream_id, greatest(h.head - l.most, coalesce((SELECT min(f.off) - 1 FROM stream_event f \
                 WHERE f.stream_id = h.stream_id AND f.at >= l.fresh_from), h.head)) AS upto \
               FROM limits l CROSS JOIN stream_head h CROSS JOIN LATERAL (SELECT e.off, e.at FROM stream_event e \
                 WHERE e.stream_id = h.stream_id ORDER BY e.off LIMIT 1) AS oldest \
               WHERE oldest.at < l.fresh_from OR oldest.off <= h.head - l.most), \
             old AS (SELECT e.stream_id, e.off FROM due d JOIN stream_event e ON e.stream_id = d.stream_id \
               AND e.off <= d.upto ORDER BY e.stream_id, e.off LIMIT ?) \
             DELETE FROM stream_event e USING old WHERE e.stream_id = old.stream_id AND e.off = old.off",
        )
        .bind::<BigInt, _>(keep.num_seconds())
        .bind::<BigInt, _>(most)
        .bind::<BigInt, _>(batch)
        .execute(self.conn())
        .store()
    }
}

/// The history of the streams, read from the database. Blocks the thread that reads.
#[derive(Clone)]
pub struct StreamLog(pub Db);

impl LogReader for StreamLog {
    fn heads(&self, streams: &[StreamId]) -> Result<Vec<(StreamId, StreamHead)>, StoreError> {
        self.0.read_blocking(|tx| tx.stream_heads(streams))
    }

    fn read(&self, stream: StreamId, after: i64, limit: usize) -> Result<Vec<StreamEvent>, StoreError> {
        self.0.read_blocking(|tx| tx.stream_events(stream, after, limit))
    }
}
