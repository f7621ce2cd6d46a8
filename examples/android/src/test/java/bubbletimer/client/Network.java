package bubbletimer.client;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.Socket;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;
import javax.net.SocketFactory;

/** The phone's network, which can break. OkHttp asks only for sockets that are not connected yet. */
final class Network extends SocketFactory {
    private final BlockingDeque<Socket> sockets = new LinkedBlockingDeque<>();

    @Override
    public Socket createSocket() {
        Socket socket = new Socket();
        sockets.add(socket);
        return socket;
    }

    /** Breaks the newest connection without a word. */
    void cut() {
        try {
            sockets.getLast().close();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Override
    public Socket createSocket(String host, int port) {
        throw new UnsupportedOperationException();
    }

    @Override
    public Socket createSocket(String host, int port, InetAddress localHost, int localPort) {
        throw new UnsupportedOperationException();
    }

    @Override
    public Socket createSocket(InetAddress host, int port) {
        throw new UnsupportedOperationException();
    }

    @Override
    public Socket createSocket(InetAddress address, int port, InetAddress localAddress, int localPort) {
        throw new UnsupportedOperationException();
    }
}
