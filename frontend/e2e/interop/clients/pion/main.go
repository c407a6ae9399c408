// Command pion-viewer watches a lesson by WHEP with pion and keeps what arrives: the picture as H.264 in Annex B, the
// sound as Opus in Ogg. Whoever decodes the files judges them.
//
// Usage: pion-viewer [-rsa] [-seconds N] -to FOLDER WHEP_URL TOKEN. Prints one line, RESULT and JSON.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/h264writer"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
)

const (
	// How long the first packet of both may take.
	firstPacket = 20 * time.Second
	module      = "github.com/pion/webrtc/v4"
)

func main() {
	withRSA := flag.Bool("rsa", false, "prove itself with an RSA key, and not with the ECDSA key that pion makes")
	seconds := flag.Float64("seconds", 4, "how long to watch, once both flow")
	to := flag.String("to", "", "where the files are put")
	flag.Parse()
	if *to == "" || flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	firstMs, err := watch(flag.Arg(0), flag.Arg(1), *to, *withRSA, time.Duration(*seconds*float64(time.Second)))
	if err != nil {
		log.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{"version": version(), "firstMs": firstMs})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("RESULT", string(line))
}

// watch returns the milliseconds from the POST to the last packet of the first picture.
func watch(url, token, folder string, withRSA bool, length time.Duration) (int64, error) {
	configuration := webrtc.Configuration{}
	if withRSA {
		certificate, err := rsaCertificate()
		if err != nil {
			return 0, err
		}
		configuration.Certificates = []webrtc.Certificate{*certificate}
	}
	connection, err := webrtc.NewPeerConnection(configuration)
	if err != nil {
		return 0, err
	}
	defer func() { _ = connection.Close() }()

	picture, err := h264writer.New(filepath.Join(folder, "picture.h264"))
	if err != nil {
		return 0, err
	}
	sound, err := oggwriter.New(filepath.Join(folder, "sound.ogg"), 48_000, 2)
	if err != nil {
		return 0, err
	}
	arrivals := &arrivals{firstMs: -1}
	writers := map[webrtc.RTPCodecType]media.Writer{
		webrtc.RTPCodecTypeVideo: picture,
		webrtc.RTPCodecTypeAudio: sound,
	}
	ended := make(chan struct{})
	arrivals.flow.Add(len(writers))
	connection.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		arrivals.keep(track, writers[track.Kind()])
	})
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		log.Println("connection:", state)
	})
	for kind := range writers {
		receive := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := connection.AddTransceiverFromKind(kind, receive); err != nil {
			return 0, err
		}
	}
	session, err := join(connection, url, token, arrivals)
	if err != nil {
		return 0, err
	}
	go func() {
		arrivals.flow.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(firstPacket):
		return 0, fmt.Errorf("picture and sound do not both flow after %v", firstPacket)
	}
	<-time.After(length)
	if err := leave(session); err != nil {
		return 0, err
	}
	if err := connection.Close(); err != nil {
		return 0, err
	}
	arrivals.kept.Wait()
	return arrivals.firstMs, errors.Join(picture.Close(), sound.Close())
}

// arrivals is what is known of the packets so far.
type arrivals struct {
	posted  time.Time
	firstMs int64
	// Counts the tracks of which no packet has come.
	flow sync.WaitGroup
	// Counts the tracks that are still being written.
	kept sync.WaitGroup
}

// keep writes a track until the connection is closed.
func (a *arrivals) keep(track *webrtc.TrackRemote, writer media.Writer) {
	a.kept.Add(1)
	defer a.kept.Done()
	log.Println("track:", track.Codec().MimeType, track.Codec().SDPFmtpLine)
	isFirst := true
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		if track.Kind() == webrtc.RTPCodecTypeVideo && packet.Marker && a.firstMs < 0 {
			a.firstMs = time.Since(a.posted).Milliseconds()
		}
		if err := writer.WriteRTP(packet); err != nil {
			log.Fatal(err)
		}
		if isFirst {
			a.flow.Done()
			isFirst = false
		}
	}
}

// join posts the offer, applies the answer and returns the session's address.
func join(connection *webrtc.PeerConnection, url, token string, a *arrivals) (string, error) {
	offer, err := connection.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(connection)
	if err := connection.SetLocalDescription(offer); err != nil {
		return "", err
	}
	<-gathered
	body := strings.NewReader(connection.LocalDescription().SDP)
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/sdp")
	request.Header.Set("Authorization", "Bearer "+token)
	a.posted = time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("the POST was answered %s: %s", response.Status, answer)
	}
	session, err := response.Location()
	if err != nil {
		return "", err
	}
	description := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}
	return session.String(), connection.SetRemoteDescription(description)
}

func leave(session string) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodDelete, session, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the DELETE was answered %s", response.Status)
	}
	return response.Body.Close()
}

func rsaCertificate() (*webrtc.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return webrtc.GenerateCertificate(key)
}

// version is pion's, as it was linked.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return "unknown"
}
