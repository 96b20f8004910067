//! The tree of operators as `explain` and `analyze` show it.

use super::{Column, Op, Operator};
use crate::ast::*;
use crate::engine::{Error, Run};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Takes down the operators while they are built; with `analyze` also what each of them costs.
#[derive(Debug, Default)]
pub(crate) struct Profile(Option<Mutex<Recording>>);

#[derive(Debug, Default)]
struct Recording {
    analyze: bool,
    nodes: Vec<Node_>,
    current: Option<usize>,
}

#[derive(Debug)]
struct Node_ {
    name: String,
    parent: Option<usize>,
    cost: Arc<Cost>,
}

#[derive(Debug, Default)]
struct Cost {
    nanos: AtomicU64,
    series: AtomicU64,
    samples: AtomicU64,
}

/// An operator of a query, with what it cost if the query was analysed.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct OperatorNode {
    /// What it does: `[vectorSelector] up`, `[aggregate] sum by (job)`.
    pub name: String,
    /// Time spent in it and its children, ns.
    pub nanos: u64,
    /// Series it gave.
    pub series: u64,
    /// Samples it gave.
    pub samples: u64,
    /// Where its input comes from.
    pub children: Vec<OperatorNode>,
}

/// The place of an operator in the recording while its children are built.
pub(crate) struct Entered(Option<(usize, Option<usize>)>);

impl Profile {
    pub(crate) fn recording(analyze: bool) -> Self {
        Self(Some(Mutex::new(Recording { analyze, ..Recording::default() })))
    }

    pub(crate) fn enter(&self, name: impl FnOnce() -> String) -> Entered {
        let Some(recording) = &self.0 else { return Entered(None) };
        let mut recording = recording.lock();
        let parent = recording.current;
        recording.nodes.push(Node_ { name: name(), parent, cost: Arc::default() });
        let at = recording.nodes.len() - 1;
        recording.current = Some(at);
        Entered(Some((at, parent)))
    }

    pub(crate) fn leave<'a>(&self, entered: Entered, op: Op<'a>) -> Op<'a> {
        let (Some(recording), Entered(Some((at, parent)))) = (&self.0, entered) else { return op };
        let mut recording = recording.lock();
        recording.current = parent;
        if !recording.analyze {
            return op;
        }
        Box::new(Measured { op, cost: Arc::clone(&recording.nodes[at].cost) })
    }

    /// Returns the tree, if it was recorded.
    pub(crate) fn tree(&self) -> Option<OperatorNode> {
        let recording = self.0.as_ref()?.lock();
        Some(recording.subtree(0))
    }
}

impl Recording {
    fn subtree(&self, at: usize) -> OperatorNode {
        let Some(node) = self.nodes.get(at) else { return OperatorNode::default() };
        let children = (at + 1..self.nodes.len()).filter(|i| self.nodes[*i].parent == Some(at));
        OperatorNode {
            name: node.name.clone(),
            nanos: node.cost.nanos.load(Ordering::Relaxed),
            series: node.cost.series.load(Ordering::Relaxed),
            samples: node.cost.samples.load(Ordering::Relaxed),
            children: children.map(|i| self.subtree(i)).collect(),
        }
    }
}

struct Measured<'a> {
    op: Op<'a>,
    cost: Arc<Cost>,
}

impl Operator for Measured<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let start = Instant::now();
        let batch = self.op.next(run);
        self.cost.nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if let Ok(Some(columns)) = &batch {
            self.cost.series.fetch_add(columns.len() as u64, Ordering::Relaxed);
            let samples = columns.iter().map(|column| column.present.count() as u64).sum();
            self.cost.samples.fetch_add(samples, Ordering::Relaxed);
        }
        batch
    }
}

/// The name of the operator of an expression.
pub(super) fn name(expr: &Expr) -> String {
    match &expr.node {
        Node::Vector(_) | Node::Matrix(_) => format!("[vectorSelector] {expr}"),
        Node::Subquery(_) => "[subquery]".to_owned(),
        Node::Unary(unary) => format!("[unary] {}", if unary.op == UnaryOp::Minus { "-" } else { "+" }),
        Node::Binary(binary) => format!("[binary] {}", binary.op.text()),
        Node::Aggregate(aggregate) => {
            let labels = aggregate.grouping.join(", ");
            let kind = if aggregate.without { "without" } else { "by" };
            format!("[aggregate] {} {kind} ({labels})", aggregate.op.text())
        }
        Node::Call(call) => match call.args.iter().find(|arg| arg.value_type() == ValueType::Matrix) {
            Some(matrix) => format!("[matrixSelector] {}({matrix})", call.func.name),
            None => format!("[function] {}", call.func.name),
        },
        Node::Number(_) | Node::String(_) => format!("[literal] {expr}"),
        Node::Paren(inner) => name(inner),
    }
}
