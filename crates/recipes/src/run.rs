//! The folder of a run: what is trained, with what, and every checkpoint on the way.
//!
//! | file | holds |
//! |---|---|
//! | `formwork.json`, `tokenizer.json` | the model's config, its tokenizer |
//! | `train.json` | the trainer's settings |
//! | `metrics.jsonl`, `loss.svg` | a line per report, and the curves |
//! | `checkpoints/step-00000500/` | parameters and state after that step |
//!
//! A checkpoint is written under another name and renamed when it is complete. A run that was killed goes on from the
//! last one, and ends with the bits of a run that was not.

use std::path::{Path, PathBuf};

use formwork_checkpoint::Snapshot;
use formwork_formats::{atomic_write, remove_stale_temporaries};
use formwork_model::ModelConfig;
use formwork_module::{At, Error, Result, TokenModel, params};
use formwork_tokenizer::Tokenizer;
use formwork_train::{
    TrainConfig, Trainer,
    run::{METRICS, RunFolder, records},
};
use serde_json::Value;

use crate::{
    files::{json, read_json},
    folder::save_description,
    layout::{CHECKPOINTS, CONFIG_FILE, SETTINGS_FILE, checkpoint, latest_snapshot, snapshots},
};

/// The folder of a run.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
}

impl Run {
    /// Starts a run in a folder that holds none yet.
    ///
    /// # Errors
    /// A folder that holds a run already, or checkpoints of one; or what the system says.
    pub fn create(
        folder: impl Into<PathBuf>,
        config: &ModelConfig,
        tokenizer: Option<&Tokenizer>,
        train: &TrainConfig,
    ) -> Result<Self> {
        let folder = folder.into();
        // They would be taken for this run's: a step that is on disk already is not written again.
        if !folder.join(METRICS).is_file()
            && let Some(left) = latest_snapshot(&folder)?
        {
            let found = format!("the checkpoint {}", left.display());
            return Err(Error::invalid(folder.display(), "a folder without a run", found)
                .hint("remove what is left of that run, or choose another folder"));
        }
        let folder = RunFolder::create(folder)?;
        save_description(folder.path(), config, tokenizer)?;
        std::fs::create_dir_all(folder.path().join(CHECKPOINTS))
            .map_err(Error::external)
            .in_file(folder.path().display())?;
        let settings = serde_json::to_vec_pretty(train).map_err(Error::external)?;
        atomic_write(folder.path().join(SETTINGS_FILE), &settings).map_err(Error::external)?;
        Ok(Self { folder })
    }

    /// Goes on with a run: puts its latest checkpoint, if there is one, into the model and the trainer, forgets what was
    /// logged after it, and removes what a killed run left half-written.
    ///
    /// # Errors
    /// A folder without a run, other settings than the run was started with, or a checkpoint that is broken or belongs
    /// to another model. Nothing has changed then, neither in the model and the trainer nor in the folder.
    pub fn resume<M: TokenModel + ?Sized>(
        folder: impl Into<PathBuf>,
        model: &M,
        trainer: &mut Trainer,
    ) -> Result<Self> {
        let folder = folder.into();
        if !folder.join(CONFIG_FILE).is_file() {
            let missing = Error::missing(format_args!("{CONFIG_FILE} in {}", folder.display()));
            return Err(missing.hint("it is no run of this project"));
        }
        let began: Value = json(&read_json(&folder.join(SETTINGS_FILE))?, SETTINGS_FILE)?;
        // With the fields that settings have gained since, at their defaults.
        let began = match serde_json::from_value::<TrainConfig>(began.clone()) {
            Ok(settings) => serde_json::to_value(settings).map_err(Error::external)?,
            Err(_) => began,
        };
        let now = serde_json::to_value(trainer.config()).map_err(Error::external)?;
        if began != now {
            return Err(Error::invalid(SETTINGS_FILE, began, now)
                .hint("go on with the settings of the run, or start another"));
        }
        records(&folder)?;
        if let Some(place) = latest_snapshot(&folder)? {
            let snapshot = Snapshot::open(&place)?;
            let before = trainer.state()?;
            trainer.restore(&snapshot.state()?)?;
            if let Err(error) = snapshot.restore(&params(model)) {
                trainer.restore(&before)?;
                return Err(error);
            }
            drop(before);
            trainer.pool().trim(); // of the moments that were replaced
        }
        if folder.join(CHECKPOINTS).is_dir() {
            remove_stale_temporaries(folder.join(CHECKPOINTS)).map_err(Error::external)?;
        }
        Ok(Self { folder: RunFolder::resume(folder, trainer.steps())? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Metrics, curve and summary.
    pub fn folder(&mut self) -> &mut RunFolder {
        &mut self.folder
    }

    /// Writes a checkpoint of the model and the trainer as they are now; gives its folder.
    ///
    /// # Errors
    /// What the system says; the checkpoints before stay as they are.
    pub fn save<M: TokenModel + ?Sized>(&self, model: &M, trainer: &Trainer) -> Result<PathBuf> {
        let place = checkpoint(self.path(), trainer.steps());
        if !Snapshot::is_at(&place) {
            // One that is there is the same step of the same run, and so has the same bits.
            Snapshot::write(&place, &params(model), &trainer.state()?)?;
        }
        Ok(place)
    }

    /// Removes all checkpoints but the latest `keep`.
    ///
    /// # Errors
    /// What the system says.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let all = snapshots(self.path())?;
        for folder in &all[..all.len().saturating_sub(keep.max(1))] {
            std::fs::remove_dir_all(folder).map_err(Error::external).in_file(folder.display())?;
        }
        Ok(())
    }
}
