//! Unpacked images.

use super::*;

#[tokio::test]
async fn an_image_is_unpacked_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(dir.path()).unwrap();
    let imports = (0..8).map(|_| store.import(test_image()));
    let images = futures_util::future::join_all(imports).await;
    let images: Vec<Image> = images.into_iter().map(Result::unwrap).collect();
    let first = &images[0];
    assert!(images.iter().all(|image| image.rootfs == first.rootfs));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(first.config.entrypoint, ["/bin/task"]);
    assert!(first.digest.starts_with("sha256:"));

    let marked = first.rootfs.join("tmp/marked");
    std::fs::write(&marked, "").unwrap();
    let again = ImageStore::new(dir.path()).unwrap();
    again.import(test_image()).await.unwrap();
    assert!(marked.exists(), "it was not unpacked again");
    assert!(again.get(&first.digest).is_some());
    assert!(again.get("sha256:0000").is_none());
}

#[tokio::test]
async fn one_flipped_byte_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(&dir.path().join("images")).unwrap();
    let mut bytes = std::fs::read(test_image()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let spoilt = dir.path().join("spoilt.tar");
    std::fs::write(&spoilt, bytes).unwrap();
    let error = store.import(&spoilt).await.unwrap_err().to_string();
    assert!(error.contains("spoilt.tar"), "{error}");
    assert_eq!(
        std::fs::read_dir(dir.path().join("images"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn what_a_killed_stage_was_unpacking_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join(".unpacking-1-1.abc");
    std::fs::create_dir_all(dead.join("rootfs/bin")).unwrap();
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start = own
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(19)
        .unwrap();
    let mine = dir
        .path()
        .join(format!(".unpacking-{}-{start}.abc", std::process::id()));
    std::fs::create_dir_all(&mine).unwrap();
    ImageStore::new(dir.path()).unwrap();
    assert!(!dead.exists());
    assert!(mine.exists(), "a living stage's is left alone");
}

#[tokio::test]
async fn an_archive_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(dir.path()).unwrap();
    let error = store
        .import(Path::new("/nowhere/image.tar"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/image.tar"), "{error}");
}
