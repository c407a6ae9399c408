"""Watches a lesson with aiortc, an implementation of WebRTC that shares nothing with ours.

Usage: viewer.py WHEP_URL TOKEN [sha1] [rsa] [mute]. Decodes for a while and prints one line of JSON. With "sha1" it
offers no other protection profile than AES128_CM_SHA1_80; with "rsa" its certificate has an RSA key; with "mute" it
asks for sound and does not wait for any. "firstMs" is the time from the POST to the first decoded picture, "level" the
root mean square of the sound, where 1 is as loud as can be.
"""

import asyncio
import json
import math
import sys
import time

import aiohttp
import aiortc
import aiortc.rtcdtlstransport as dtls
from aiortc import RTCPeerConnection, RTCSessionDescription
from cryptography.hazmat.primitives.asymmetric import rsa

VIDEO_FRAMES = 75
AUDIO_FRAMES = 150
LIMIT_SECONDS = 30


async def count_video(track, result, posted):
    different = set()
    while result["frames"] < VIDEO_FRAMES:
        frame = await track.recv()
        result.setdefault("firstMs", round(1000 * (time.monotonic() - posted)))
        result["frames"] += 1
        result["width"], result["height"] = frame.width, frame.height
        plane = bytes(frame.planes[0])
        different.add(hash(plane))
        result["contrast"] = max(plane) - min(plane)
    result["different"] = len(different)


async def count_audio(track, result):
    last = None
    energy = 0.0
    while result["packets"] < AUDIO_FRAMES:
        frame = await track.recv()
        result["packets"] += 1
        if last is not None:
            result["steps"].add(frame.pts - last)
        last = frame.pts
        samples = frame.to_ndarray()
        result["peak"] = max(result["peak"], int(abs(samples).max()))
        # Interleaved, 16 bits.
        result["samples"] += frame.samples
        energy += float(((samples / 32768.0) ** 2).mean()) * frame.samples
    result["level"] = math.sqrt(energy / result["samples"])


async def main(url, token):
    result = {"version": aiortc.__version__, "frames": 0, "packets": 0, "peak": 0, "samples": 0, "steps": set()}
    pc = RTCPeerConnection()
    tracks = {}
    pc.on("track", lambda track: tracks.setdefault(track.kind, track))
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http:
        posted = time.monotonic()
        async with http.post(url, data=pc.localDescription.sdp, headers=headers) as response:
            assert response.status == 201, (response.status, await response.text())
            answer = await response.text()
    await pc.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    watching = [count_video(tracks["video"], result, posted)]
    if "mute" not in sys.argv[3:]:
        watching.append(count_audio(tracks["audio"], result))
    await asyncio.wait_for(asyncio.gather(*watching), LIMIT_SECONDS)
    result["steps"] = sorted(result["steps"])
    await pc.close()
    print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    if "sha1" in sys.argv[3:]:
        dtls.SRTP_PROFILES = [p for p in dtls.SRTP_PROFILES if p.openssl_profile == b"SRTP_AES128_CM_SHA1_80"]
        assert len(dtls.SRTP_PROFILES) == 1
    if "rsa" in sys.argv[3:]:
        dtls.ec.generate_private_key = lambda *_: rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = dtls.RTCCertificate.generateCertificate()
        assert isinstance(certificate._cert.public_key(), rsa.RSAPublicKey), "aiortc makes its keys in another way"
    asyncio.run(main(sys.argv[1], sys.argv[2]))
