//! `and`, `or`, `unless`. Of the other side only the steps matter at which it has a sample for a signature: its samples are
//! not kept.

use super::signature;
use crate::ast::{BinaryOp, Matching};
use crate::engine::{Error, Hold, Run};
use crate::exec::{Bits, Column, Op, Operator};
use farview_model::Labels;
use hashbrown::HashMap;

pub(super) fn build<'a>(op: BinaryOp, matching: &'a Matching, lhs: Op<'a>, rhs: Op<'a>, count: usize) -> Op<'a> {
    Box::new(Set { op, matching, lhs, rhs, count, present: HashMap::new(), hold: None, phase: Phase::Start })
}

struct Set<'a> {
    op: BinaryOp,
    matching: &'a Matching,
    lhs: Op<'a>,
    rhs: Op<'a>,
    count: usize,
    /// For each signature the steps at which the other side has a sample.
    present: HashMap<Labels, Bits>,
    hold: Option<Hold>,
    phase: Phase,
}

#[derive(PartialEq)]
enum Phase {
    Start,
    /// The left side passes.
    Left,
    /// `or`: what the left side lacks passes from the right.
    Right,
}

impl Set<'_> {
    fn note_steps(&mut self, run: &Run<'_>, columns: &[Column]) -> Result<(), Error> {
        for column in columns {
            let key = signature(self.matching, &column.labels);
            match self.present.get_mut(&key) {
                Some(bits) => bits.add(&column.present),
                None => {
                    let bytes = (key.size_bytes() + self.count / 8 + 64) as u64;
                    match &mut self.hold {
                        Some(hold) => hold.grow(run, bytes, 0)?,
                        none => *none = Some(run.hold(bytes, 0)?),
                    }
                    self.present.insert(key, column.present.clone());
                }
            }
        }
        Ok(())
    }

    /// Passes columns at the steps at which the other side has a sample, or has none.
    fn pass(&self, batch: Vec<Column>, wanted: bool) -> Vec<Column> {
        let kept = batch.into_iter().filter_map(|mut column| {
            match (self.present.get(&signature(self.matching, &column.labels)), wanted) {
                (Some(steps), true) => column.keep(steps),
                (Some(steps), false) => column.subtract(steps),
                (None, true) => return None,
                (None, false) => {}
            }
            (!column.present.is_empty()).then_some(column)
        });
        kept.collect()
    }
}

impl Operator for Set<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        if self.phase == Phase::Start {
            self.phase = Phase::Left;
            if self.op != BinaryOp::Or {
                while let Some(batch) = self.rhs.next(run)? {
                    run.check()?;
                    self.note_steps(run, &batch)?;
                }
            }
        }
        if self.phase == Phase::Left {
            if let Some(batch) = self.lhs.next(run)? {
                if self.op == BinaryOp::Or {
                    self.note_steps(run, &batch)?;
                    return Ok(Some(batch));
                }
                return Ok(Some(self.pass(batch, self.op == BinaryOp::And)));
            }
            if self.op != BinaryOp::Or {
                return Ok(None);
            }
            self.phase = Phase::Right;
        }
        Ok(self.rhs.next(run)?.map(|batch| self.pass(batch, false)))
    }
}
