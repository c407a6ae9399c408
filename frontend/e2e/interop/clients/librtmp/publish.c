/* Publishes an FLV file over and over, in real time, with librtmp: publish FILE URL. */
#include <librtmp/log.h>
#include <librtmp/rtmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_HEADER = 9, TAG_HEADER = 11, PREVIOUS_SIZE = 4, SCRIPT_DATA = 18, FRAME_MS = 40, TAG_MAX = 1 << 20 };

static struct timespec began;

static void wait_until(unsigned ms) {
    struct timespec due = {began.tv_sec + ms / 1000, began.tv_nsec + (long)(ms % 1000) * 1000000};
    if (due.tv_nsec >= 1000000000) due.tv_sec++, due.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

/* Reads what the server has to say, without waiting for it. Without this a refusal would be heard by nobody. */
static void listen_to(RTMP *rtmp) {
    struct pollfd socket = {RTMP_Socket(rtmp), POLLIN, 0};
    RTMPPacket packet = {0};
    while (RTMP_IsConnected(rtmp) && poll(&socket, 1, 0) > 0 && RTMP_ReadPacket(rtmp, &packet))
        if (RTMPPacket_IsReady(&packet)) RTMP_ClientPacket(rtmp, &packet), RTMPPacket_Free(&packet);
}

static unsigned big(const unsigned char *at) { return at[0] << 16 | at[1] << 8 | at[2]; }

/* Sends the file's tags, each when it is due, `offset` later than it says. Returns when the file ends, or 0 on failure. */
static unsigned send_file(RTMP *rtmp, FILE *file, unsigned offset, unsigned char *tag) {
    unsigned time = offset;
    if (fseek(file, FILE_HEADER + PREVIOUS_SIZE, SEEK_SET)) return 0;
    while (fread(tag, 1, TAG_HEADER, file) == TAG_HEADER) {
        unsigned size = big(tag + 1);
        if (size + TAG_HEADER + PREVIOUS_SIZE > TAG_MAX) return 0;
        if (fread(tag + TAG_HEADER, 1, size + PREVIOUS_SIZE, file) != size + PREVIOUS_SIZE) return 0;
        if (tag[0] == SCRIPT_DATA && offset > 0) continue;
        time = offset + (big(tag + 4) | (unsigned)tag[7] << 24);
        tag[4] = time >> 16, tag[5] = time >> 8, tag[6] = time, tag[7] = time >> 24;
        wait_until(time);
        listen_to(rtmp);
        if (RTMP_Write(rtmp, (char *)tag, (int)(size + TAG_HEADER + PREVIOUS_SIZE)) <= 0) return 0;
    }
    return time + FRAME_MS;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        printf("librtmp %d.%d\n", RTMP_LibVersion() >> 16, RTMP_LibVersion() >> 8 & 0xff);
        return 0;
    }
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!file) return fprintf(stderr, "usage: publish FILE URL\n"), 2;
    /* librtmp writes to connections that are closed, and would die of it. */
    signal(SIGPIPE, SIG_IGN);
    RTMP_LogSetLevel(RTMP_LOGINFO);
    RTMP *rtmp = RTMP_Alloc();
    RTMP_Init(rtmp);
    if (!RTMP_SetupURL(rtmp, argv[2])) return fprintf(stderr, "the URL is not understood\n"), 1;
    RTMP_EnableWrite(rtmp);
    if (!RTMP_Connect(rtmp, NULL)) return fprintf(stderr, "not connected\n"), 1;
    if (!RTMP_ConnectStream(rtmp, 0)) return fprintf(stderr, "not allowed to publish\n"), 1;
    unsigned char *tag = malloc(TAG_MAX);
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (unsigned offset = 0, sent = 0; (sent = send_file(rtmp, file, offset, tag)); offset = sent) {}
    fprintf(stderr, "the connection was lost\n");
    return 1;
}
