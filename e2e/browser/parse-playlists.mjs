// Parses playlist files with an independent parser in strict mode and prints what it found as JSON.

import { readFileSync } from 'node:fs';
import HLS from 'hls-parser';

HLS.setOptions({ strictMode: true });

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('parse-playlists: usage: node parse-playlists.mjs FILE...');
  process.exit(1);
}

const playlists = files.map((file) => {
  try {
    return { file, ...summary(HLS.parse(readFileSync(file, 'utf8'))) };
  } catch (error) {
    console.error(`parse-playlists: ${file}: ${error.message}`);
    process.exit(1);
  }
});
console.log(JSON.stringify(playlists));

function summary(playlist) {
  const common = { version: playlist.version, independentSegments: playlist.independentSegments };
  if (playlist.isMasterPlaylist) {
    return {
      kind: 'multivariant',
      ...common,
      variants: playlist.variants.map(
        ({ uri, bandwidth, averageBandwidth, codecs, resolution, frameRate, videoRange, audio, isIFrameOnly }) => ({
          uri,
          bandwidth,
          averageBandwidth,
          codecs,
          resolution,
          frameRate,
          videoRange,
          iFramesOnly: Boolean(isIFrameOnly),
          audio: audio.map(({ uri: audioUri, groupId, name, isDefault }) => ({ uri: audioUri, groupId, name, isDefault })),
        }),
      ),
    };
  }
  // These the parser lets pass.
  if (!playlist.targetDuration) throw new Error('EXT-X-TARGETDURATION is missing');
  if (playlist.segments.some(({ uri, duration }) => !uri || !(duration >= 0))) {
    throw new Error('a segment has no address or no duration');
  }
  return {
    kind: 'media',
    ...common,
    playlistType: playlist.playlistType,
    ended: playlist.endlist,
    targetDuration: playlist.targetDuration,
    mediaSequence: playlist.mediaSequenceBase,
    duration: playlist.segments.reduce((sum, segment) => sum + segment.duration, 0),
    segments: playlist.segments.map(({ uri, duration, byterange, discontinuity, map }) => ({
      uri,
      duration,
      byterange,
      discontinuity,
      map: map?.uri,
    })),
  };
}
