//! Pulls an image, and adds up how far its layers are.

use std::collections::BTreeMap;

use bollard::Docker;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use tokio::sync::watch;

use super::errors;
use crate::runtime::{PullError, PullProgress, tagged};

/// Pulls to the end.
pub(super) async fn pull(
    docker: &Docker,
    image: &str,
    progress: &watch::Sender<PullProgress>,
) -> Result<(), PullError> {
    // Without a tag, Docker's API would pull every tag there is.
    let options = CreateImageOptionsBuilder::default().from_image(&tagged(image)).build();
    let mut stream = docker.create_image(Some(options), None, None);
    let mut layers = BTreeMap::new();
    let mut steps = 0;
    while let Some(news) = stream.next().await {
        let news = news.map_err(|error| errors::pull(&error))?;
        steps += 1;
        note(&mut layers, news);
        let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).sum();
        progress.send_replace(PullProgress {
            pulled_bytes: sum(|(pulled, _)| *pulled),
            total_bytes: sum(|(_, total)| *total),
            steps,
        });
    }
    Ok(())
}

fn note(layers: &mut BTreeMap<String, (u64, u64)>, news: CreateImageInfo) {
    let (Some(id), Some(detail)) = (news.id, news.progress_detail) else { return };
    let unsigned = |amount: Option<i64>| amount.and_then(|amount| u64::try_from(amount).ok());
    let (Some(current), Some(total)) = (unsigned(detail.current), unsigned(detail.total)) else { return };
    // Extracting counts the same bytes once more: a layer that has come stays come.
    let layer = layers.entry(id).or_default();
    *layer = (layer.0.max(current.min(total)), layer.1.max(total));
}
