//! Where lines come from: files, the journal, standard input.
