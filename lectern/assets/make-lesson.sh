#!/bin/sh
# Draws the lesson that `lectern demo` publishes. Run by hand when it should look different; the result is committed.
set -eu
cd "$(dirname "$0")"
font=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
bold=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
text="drawtext=fontfile=$font:fontcolor=0xe8f0ea"
title="drawtext=fontfile=$bold:fontcolor=0xffd66b"
ffmpeg -v error -y \
    -f lavfi -i "color=c=0x1f3d33:s=960x540:r=25:d=16" \
    -f lavfi -i "aevalsrc='0.25*sin(2*PI*(262+33*floor(mod(t,8)))*t)*exp(-3*mod(t,1))':s=44100:d=16" \
    -vf "drawgrid=w=60:h=60:t=1:c=0x2a4e42,\
$title:text='Lectern demo lesson':fontsize=44:x=48:y=40,\
$text:text='The moving bar shows that the picture is live,':fontsize=26:x=48:y=130,\
$text:text='the note that the sound is.':fontsize=26:x=48:y=168,\
$text:text='a² + b² = c²':fontsize=64:x='300+120*sin(2*PI*t/8)':y=260,\
drawbox=x=48:y=430:w=864:h=6:c=0x5f8d7d:t=fill,\
drawbox=x='48+mod(t*54,848)':y=418:w=16:h=30:c=0xffd66b:t=fill,\
$text:text='%{pts\\:hms}':fontsize=28:x=760:y=470" \
    -c:v libx264 -profile:v baseline -preset veryslow -tune stillimage -crf 27 -g 50 -keyint_min 50 -sc_threshold 0 \
    -pix_fmt yuv420p -c:a aac -b:a 48k -ac 1 -f flv lesson.flv
