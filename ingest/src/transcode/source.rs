//! What comes in: which codec, and its decoder.
use media::aac::AudioSpecificConfig;
use media::flv::audio::{Codec, G711_HZ};
use symphonia::core::audio::layouts::{CHANNEL_LAYOUT_MONO, CHANNEL_LAYOUT_STEREO};
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_MP3, CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW, CODEC_ID_PCM_S16LE, CODEC_ID_PCM_U8,
};
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::default::codecs::{AacDecoder, MpaDecoder, PcmDecoder};

use super::{CHANNELS_MAX, TranscodeError, library};

/// Samples of one channel in an AAC-LC frame (ISO/IEC 14496-3, section 4.5.1.1); other lengths are refused.
pub(super) const AAC_FRAME_SAMPLES: u16 = 1024;

/// What a publisher's sound is coded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// AAC.
    Aac(AudioSpecificConfig),
    /// What needs no configuration.
    Other(Codec),
}

impl From<AudioSpecificConfig> for Source {
    fn from(config: AudioSpecificConfig) -> Self {
        Self::Aac(config)
    }
}

impl Source {
    /// The rate, the channels and the samples of one channel that a frame has, where that is known beforehand.
    pub(super) fn shape(self) -> Option<(u32, u8, u16)> {
        match self {
            Self::Aac(config) => Some((config.rate_hz, config.channels, AAC_FRAME_SAMPLES)),
            Self::Other(_) => None,
        }
    }

    pub(super) fn decoder(self) -> Result<Box<dyn AudioDecoder>, TranscodeError> {
        let mut parameters = AudioCodecParameters::new();
        let options = AudioDecoderOptions::default();
        let pcm = |id: AudioCodecId, rate_hz: u32, channels: u8| {
            let layout = if channels == 1 { CHANNEL_LAYOUT_MONO } else { CHANNEL_LAYOUT_STEREO };
            let mut parameters = AudioCodecParameters::new();
            parameters.for_codec(id).with_sample_rate(rate_hz).with_channels(layout);
            let decoder = PcmDecoder::try_new(&parameters, &options).map_err(library("PCM decoder"))?;
            Ok(Box::new(decoder) as Box<dyn AudioDecoder>)
        };
        match self {
            Self::Aac(config) if config.channels > CHANNELS_MAX => {
                Err(TranscodeError::Channels(config.channels))
            }
            Self::Aac(config) => {
                let extra = config.to_bytes().to_vec().into_boxed_slice();
                parameters.for_codec(CODEC_ID_AAC).with_sample_rate(config.rate_hz).with_extra_data(extra);
                let decoder = AacDecoder::try_new(&parameters, &options).map_err(library("AAC decoder"))?;
                Ok(Box::new(decoder))
            }
            Self::Other(Codec::Mp3) => {
                parameters.for_codec(CODEC_ID_MP3);
                let decoder = MpaDecoder::try_new(&parameters, &options).map_err(library("MP3 decoder"))?;
                Ok(Box::new(decoder))
            }
            Self::Other(Codec::ALaw { channels }) => pcm(CODEC_ID_PCM_ALAW, G711_HZ, channels),
            Self::Other(Codec::MuLaw { channels }) => pcm(CODEC_ID_PCM_MULAW, G711_HZ, channels),
            Self::Other(Codec::Pcm8 { rate_hz, channels }) => pcm(CODEC_ID_PCM_U8, rate_hz, channels),
            Self::Other(Codec::Pcm16 { rate_hz, channels }) => pcm(CODEC_ID_PCM_S16LE, rate_hz, channels),
        }
    }
}
