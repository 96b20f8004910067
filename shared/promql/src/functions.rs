//! The table of functions: names, argument and result types, and which of them are experimental.

use crate::ast::ValueType;

/// Signature of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in PromQL.
    pub name: &'static str,
    /// Types of the arguments; with variadic functions the last may be left out or repeated.
    pub args: &'static [ValueType],
    /// 0: exactly `args`; n > 0: up to n further arguments beyond `args.len() - 1`; -1: any number of the last.
    pub variadic: i32,
    /// What it returns.
    pub returns: ValueType,
    /// Only behind `promql-experimental-functions`.
    pub experimental: bool,
}
