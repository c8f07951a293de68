//! What a stage that was killed leaves behind, and how the next one removes exactly that.
