//! Catching up with the log: holes, other instances' events, lost history.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::stream::{StreamEvent, StreamId};

use super::stream_cell::{Need, StreamCell};
use super::{Hub, Inner};
use crate::cursor::Position;
use crate::sync::{lock, read, write};

/// The most ids that one call of [`LogReader::heads`](crate::LogReader::heads) is given.
const HEADS_PER_CALL: usize = 1_000;
const FILL_BATCH: usize = 500;

/// What a sweep saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Streams looked at.
    pub streams: usize,
    /// Streams whose head was ahead of this hub.
    pub behind: usize,
}

impl Hub {
    /// Compares every active stream with the log and reads what is missing. Correctness needs it about every second:
    /// it finds what other instances wrote and what a crash left unpublished. Blocks on the log.
    ///
    /// # Errors
    /// The log cannot be read; the next sweep does all of it.
    pub fn sweep(&self) -> Result<SweepReport, StoreError> {
        let cells: Vec<_> = read(&self.0.streams).values().cloned().collect();
        self.0.refresh(&cells)
    }

    /// The same for those of these streams that are active: for wake-ups from other instances.
    ///
    /// # Errors
    /// The log cannot be read; the next sweep does all of it.
    pub fn wake(&self, streams: &[StreamId]) -> Result<SweepReport, StoreError> {
        let cells: Vec<_> = {
            let active = read(&self.0.streams);
            streams.iter().filter_map(|id| active.get(id).cloned()).collect()
        };
        self.0.refresh(&cells)
    }

    /// Fills holes that stay longer than [`hole_patience`](crate::HubSettings::hole_patience), and forgets streams that
    /// nobody has heard for long. Cheap without holes; due several times within that patience. Blocks on the log.
    ///
    /// # Errors
    /// The log cannot be read; the next call tries again.
    pub fn repair(&self, now: Instant) -> Result<(), StoreError> {
        let settings = &self.0.settings;
        let cells: Vec<_> = read(&self.0.streams).values().cloned().collect();
        let mut forgotten = false;
        for cell in cells {
            let need = cell.state().inspect(now, settings.hole_patience, settings.linger);
            match need {
                Need::Nothing => {}
                Need::Fill => self.0.fill(&cell)?,
                Need::Refresh => drop(self.0.refresh(&[cell])?),
                Need::Forget => forgotten = true,
            }
        }
        if forgotten {
            let due = |cell: &StreamCell| {
                cell.state().inspect(now, settings.hole_patience, settings.linger) == Need::Forget
            };
            write(&self.0.streams).retain(|_, cell| !due(cell));
        }
        Ok(())
    }
}

impl Inner {
    /// Reads the heads of these streams, and what is missing up to them.
    pub(super) fn refresh(&self, cells: &[Arc<StreamCell>]) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        for cells in cells.chunks(HEADS_PER_CALL) {
            let before: Vec<_> = cells.iter().map(|cell| cell.state().at).collect();
            let ids: Vec<_> = cells.iter().map(|cell| cell.id).collect();
            let heads: HashMap<_, _> = self.log.heads(&ids)?.into_iter().collect();
            for (cell, before) in cells.iter().zip(before) {
                let head = heads.get(&cell.id).map_or(Position::UNBORN, |head| (*head).into());
                let behind = {
                    let mut state = cell.state();
                    state.reconcile(before, head);
                    state.is_behind()
                };
                report.streams += 1;
                if behind {
                    report.behind += 1;
                    self.fill(cell)?;
                }
            }
        }
        Ok(report)
    }

    /// Reads what is missing up to the head that is known.
    pub(super) fn fill(&self, cell: &Arc<StreamCell>) -> Result<(), StoreError> {
        while let Some(news) = self.fill_some(cell)? {
            news.iter().for_each(|event| self.tap(event));
        }
        Ok(())
    }

    /// Reads one batch; the answer is what was new in it, and nothing once nothing is missing.
    fn fill_some(&self, cell: &StreamCell) -> Result<Option<Vec<StreamEvent>>, StoreError> {
        let _one_at_a_time = lock(&cell.filling);
        let behind = {
            let state = cell.state();
            state.at.filter(|_| state.is_behind())
        };
        let Some(after) = behind else { return Ok(None) };
        let events = self.log.read(cell.id, after.offset, FILL_BATCH)?;
        let first = events.first().map(|event| Position { epoch: event.epoch, offset: event.offset });
        let (news, stuck) = {
            let mut state = cell.state();
            let news = events.into_iter().filter(|event| state.accept(event)).collect();
            (news, state.at == Some(after))
        };
        if stuck {
            self.skip_lost(cell, after, first)?;
        }
        Ok(Some(news))
    }

    /// The log has not the event after `after`, though the head says that it was written: it was pruned, or the whole
    /// history was replaced.
    fn skip_lost(
        &self,
        cell: &StreamCell,
        after: Position,
        first: Option<Position>,
    ) -> Result<(), StoreError> {
        let head = self.log.heads(&[cell.id])?.first().map_or(Position::UNBORN, |(_, head)| (*head).into());
        let mut state = cell.state();
        state.reconcile(Some(after), head);
        if state.at != Some(after) {
            return Ok(());
        }
        let kept = first.filter(|first| first.epoch == after.epoch).map(|first| first.offset - 1);
        let target = kept.filter(|offset| *offset > after.offset).unwrap_or(head.offset);
        tracing::warn!(
            stream = %cell.id, after = after.offset, until = target,
            "Events were pruned before they were delivered: clients are asked to take a snapshot."
        );
        state.skip_to(target);
        Ok(())
    }
}
