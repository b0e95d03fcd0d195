//! Ini files as fail2ban reads them: includes, what a later file overrides, and interpolation.

/// What files there are: the caller reads them, nothing here touches the world.
pub trait Files {
    /// The whole text of a file, any bytes; `Ok(None)` where there is none.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String>;

    /// The paths of the files in a folder that end so (`.conf`), sorted; empty where there is no folder.
    fn list(&self, dir: &str, ending: &str) -> Vec<String>;
}
