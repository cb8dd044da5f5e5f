//! Saving and loading modules: sources, reports, atomic folders
