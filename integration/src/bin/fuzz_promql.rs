//! Random queries asked of the engine and of a real Prometheus over the same block: `./justw fuzz-promql`.

#![allow(clippy::print_stdout, reason = "what it finds is its output")]

use clap::Parser;
use farview_integration::differential::{Pair, Questions, write_block};
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares the engine with Prometheus'.
#[derive(Debug, Parser)]
struct Arguments {
    /// Queries for each block.
    #[arg(long, default_value_t = 20_000)]
    queries: usize,
    /// The first seed; each further block has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Blocks.
    #[arg(long, default_value_t = 10)]
    blocks: u64,
    /// Differences that are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
    /// Only write the block of the seed into this folder.
    #[arg(long)]
    write_block: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(folder) = arguments.write_block {
        write_block(&folder, arguments.seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut all = 0;
    for seed in arguments.seed..arguments.seed + arguments.blocks {
        let pair = Pair::start(seed).await?;
        let differences = pair.run(Questions::new(seed).take(arguments.queries)).await?;
        println!("seed {seed}: {} of {} queries answered differently", differences.len(), arguments.queries);
        for difference in differences.iter().take(arguments.show.saturating_sub(all)) {
            println!("{difference}\n");
        }
        all += differences.len();
    }
    Ok(if all == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
